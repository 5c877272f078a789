"""Read a disk that nobody vouches for, without the kernel: in a child process that has limits, and
no way out."""
