"""From a proven image to what others launch by, and back: `publish`, `promote`, `rollback`."""
