"""Make a bootable disk from a root tree, without loop devices or mounts; the same bytes each
time."""
