"""What `watch` looks at, one module a kind of source. Each says when it was last changed, or why it
can't be looked at.

A source that fails does not stop the others: its error is part of what was seen, and the run ends
with it.
"""
