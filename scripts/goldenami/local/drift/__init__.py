"""A disk compared with its bake."""
