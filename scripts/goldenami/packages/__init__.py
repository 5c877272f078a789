"""Files by name, version and SHA-256."""
