"""What a build holds and what is known against it: bills of materials, vulnerabilities, secrets
left behind."""
