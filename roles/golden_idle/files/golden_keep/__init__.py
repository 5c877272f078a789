"""golden-keep: it copies what lies in a folder `keep` to the team's bucket, and brings it back on
the owner's next machine.

It needs Python's standard library, and the distribution's boto3 with s3transfer once there is
something to copy. docs/keep.md describes it.
"""
