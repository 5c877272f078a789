"""What runs of an image, and what it costs: a package on top of goldenami, which plugs its commands
into `golden` by an entry point of pyproject.toml."""
