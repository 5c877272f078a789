"""The `report` stage: one build as one self-contained page."""
