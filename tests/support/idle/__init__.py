"""Lives of machines, for the role golden_idle."""
