"""Commands on builds of this machine: from a lock to a verified disk."""
