"""The `bake` stage: a lock becomes a sealed disk or an AMI."""
