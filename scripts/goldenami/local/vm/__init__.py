"""Boot a disk as if on EC2."""
