"""golden-idle: it publishes how busy a machine is, protects a busy machine from scale-in, and gives
notice of an idle one or ends it.

It needs Python's standard library, and the distribution's boto3 for calls to AWS. docs/idle.md
describes it.
"""
