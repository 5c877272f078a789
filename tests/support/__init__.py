"""Helpers of the tests, by what they stand for."""
