"""The `verify` stage: the image is booted and checked."""
