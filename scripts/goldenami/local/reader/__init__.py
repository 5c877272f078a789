"""A disk that nobody vouches for, read without the kernel: in a child process that has limits, and
no way out."""
