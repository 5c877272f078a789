"""Errors, processes, records, time and units, on which all else is built. Nothing here knows of
images."""
