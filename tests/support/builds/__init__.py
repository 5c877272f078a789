"""Builds, locks, checkouts and kills for tests."""
