"""Machines with a folder that is kept, for the package golden_keep."""
