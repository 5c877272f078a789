"""What is asked of a sealed disk: its tests, a hardening guide, its unused blocks."""
