"""What `watch` looks at, one module a kind of source. One that fails does not stop the others."""
