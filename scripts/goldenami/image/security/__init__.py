"""The parts of a build and what is known against them: bills of materials, vulnerabilities,
provenance."""
