"""The `watch` stage: what is newer than the locks, and matters."""
