"""Other services, one a module: stacks, buckets, a signing key, messages, metrics."""
