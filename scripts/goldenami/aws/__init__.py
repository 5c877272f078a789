"""The account: everything that talks to AWS. Clients are passed in; `session` makes them."""
