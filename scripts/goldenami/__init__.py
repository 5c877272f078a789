"""goldenami bakes, proves, publishes and retires golden machine images."""
