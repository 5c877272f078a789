"""Where a build comes from, signed."""
