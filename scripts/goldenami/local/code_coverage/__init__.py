"""The check that the machine code in a tree runs on every declared CPU and GPU."""
