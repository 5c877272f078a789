"""Output on a terminal: progress, columns, and commands as a person types them."""
