"""Dated tables of releases, hardware and drivers of which images can be made, and their ends of
support."""
