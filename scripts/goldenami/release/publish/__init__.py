"""From a verified image to what others launch by, and back: `publish`, `promote`, `rollback`."""
