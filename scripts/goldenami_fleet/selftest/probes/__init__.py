"""Questions to a real account, each with the answer that we expect."""
