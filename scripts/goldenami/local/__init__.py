"""The one-machine builder: namespaces, root trees, containers, disks and virtual machines."""
