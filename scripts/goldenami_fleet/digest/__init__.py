"""The weekly digest: what changed in an account and needs a decision, reported once."""
