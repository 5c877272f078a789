"""Accounts, faults and uploads against the emulated EC2."""
