"""The whole life of a small image in an account, each step held to what we take AWS to do."""
