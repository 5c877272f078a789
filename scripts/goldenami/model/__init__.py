"""What is true of an image, and the rules of what fits what. No I/O but files."""
