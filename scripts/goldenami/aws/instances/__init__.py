"""Instances: launched for a while, described, asked by Run Command."""
