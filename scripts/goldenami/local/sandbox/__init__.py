"""Namespaces that die with their parent, and the ways into them."""
