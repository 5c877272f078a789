"""The stages `publish`, `promote` and `rollback`: from a verified build to the AMIs and pointers
that others launch by, and back."""
