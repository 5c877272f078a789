"""The two places where an image is built and booted: this machine, or EC2."""
