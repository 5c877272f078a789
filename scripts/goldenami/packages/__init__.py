"""Package files by name, version and SHA-256: where they come from, and the store that keeps
them."""
