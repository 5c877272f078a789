"""The weekly digest: what changed in an account and wants a decision, told once."""
