"""The sources that `watch` reads, one module for each kind. If one fails, the others are still
read."""
