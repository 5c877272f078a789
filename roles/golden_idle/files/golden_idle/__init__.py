"""golden-idle: publishes how busy a machine is, protects it while it is, and says or ends it when
it is not.

Python's standard library, and the distribution's boto3 for calls to AWS. docs/idle.md describes it.
"""
