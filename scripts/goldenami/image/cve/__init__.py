"""What is known against a build: vulnerabilities, and why one is let pass."""
