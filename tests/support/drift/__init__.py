"""Disks that drift: a small image, and what can be done to it."""
