"""goldenami bakes, proves, publishes and retires golden machine images."""

__version__ = "0.1.0"
