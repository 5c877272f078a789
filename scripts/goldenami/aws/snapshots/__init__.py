"""A disk's blocks, and the EBS direct APIs by which they become a snapshot."""
