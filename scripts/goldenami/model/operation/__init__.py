"""How machines of an image run: when, how many of them ahead of who needs one, and where they
may."""
