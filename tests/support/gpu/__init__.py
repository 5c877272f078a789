"""A machine with GPUs for tests: stand-ins of NVIDIA's libraries in C, and folders that look like
its /sys."""
