"""Commands on a fleet: what runs of an image, what it costs, and the account that it runs in."""
