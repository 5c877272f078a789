"""One region of an account as data: who refers to what, and the steps by which things go."""
