"""Files by name, version and SHA-256: archives, the package index, downloads, the store of what was
fetched."""
