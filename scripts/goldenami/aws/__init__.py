"""Everything that talks to AWS. Clients are passed in; `session` makes them."""
