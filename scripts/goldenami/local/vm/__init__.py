"""A disk booted as if on EC2."""
