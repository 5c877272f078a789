"""Sources of kernel modules, and their signatures."""
