"""Compare what runs with what was baked: the fleet, and the disks of its instances."""
