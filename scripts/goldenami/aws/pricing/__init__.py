"""What AWS asks for, and what was paid."""
