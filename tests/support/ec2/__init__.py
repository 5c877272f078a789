"""Instances of the emulated EC2 that really run."""
