"""How an image gets to those who launch it, and how it leaves."""
