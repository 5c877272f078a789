"""What a lock and a build hold: records that are read and written as JSON."""
