"""What a build holds, as bills of materials."""
