"""Snapshots: written from a disk's blocks and read by the EBS direct APIs, or made of a volume."""
