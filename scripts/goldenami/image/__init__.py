"""What an image is, made and proved: its lock, its bake, its checks, its evidence."""
