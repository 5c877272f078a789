"""The rules that this checkout is held to."""
