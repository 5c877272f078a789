"""golden-health: checks of this machine's GPUs, disks and clock for faults.

It needs Python's standard library, the driver, and golden_idle for calls to AWS. docs/health.md
describes what it does.
"""
