"""What a lock holds, and what it is held against."""
