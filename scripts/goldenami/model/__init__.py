"""Definitions, locks and records of builds, and the rules about what fits together. Reads and
writes files only, never the network."""
