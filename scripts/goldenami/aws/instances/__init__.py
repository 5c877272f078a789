"""EC2 instances and instance types: launching, describing and terminating them."""
