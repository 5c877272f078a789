"""A synthetic distribution, package index and their mirrors."""
