"""Root trees: how they are made, kept as layers, listed and sealed."""
