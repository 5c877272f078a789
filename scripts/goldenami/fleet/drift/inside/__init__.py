"""What runs on an instance and lies on no disk, asked of the instance itself."""
