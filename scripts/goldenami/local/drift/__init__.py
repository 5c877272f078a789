"""Compare a disk with its bake."""
