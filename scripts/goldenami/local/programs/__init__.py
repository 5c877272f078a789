"""What runs in namespaces of its own, each `python -m goldenami.local.programs.NAME PLAN`."""
