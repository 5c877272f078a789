"""Records of locks and builds, which are read and written as JSON."""
