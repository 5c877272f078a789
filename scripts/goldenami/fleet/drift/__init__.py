"""What runs against what was baked: the fleet, and the disks of its instances."""
