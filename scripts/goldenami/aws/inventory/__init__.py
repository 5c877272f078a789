"""One region of an account as data: what refers to what, and the steps that remove things."""
