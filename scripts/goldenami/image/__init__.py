"""An image: its lock, its bake, its checks, and the evidence for them."""
