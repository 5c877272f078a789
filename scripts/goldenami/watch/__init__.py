"""The `watch` stage: find newer versions that matter to the locks."""
