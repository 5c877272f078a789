"""Snapshots with their blocks, root volumes, encryption."""
