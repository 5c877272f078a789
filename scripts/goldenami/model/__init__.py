"""What is true of an image: definition, hardware, lock, records, and the rules of what fits what.
No I/O but files."""
