"""Sections of a definition about running machines: when they run, how many of them in advance, and
in which regions."""
