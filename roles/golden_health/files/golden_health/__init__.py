"""golden-health: whether this machine is whole, as a look at its GPUs, disks and clock shows.

Python's standard library, the driver, and golden_idle for calls to AWS. docs/health.md describes
what it does.
"""
