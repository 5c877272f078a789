"""What runs against what was baked: the fleet, the disks of its instances, and their repair."""
