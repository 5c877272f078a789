"""Prices from AWS's price list, and what was billed."""
