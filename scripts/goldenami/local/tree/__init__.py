"""Root trees: made, kept as layers, listed, sealed."""
