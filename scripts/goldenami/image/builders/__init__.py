"""Where an image is built and booted: on this machine, or on EC2."""
