"""What runs inside the namespaces, each `python -m goldenami.local.programs.NAME PLAN`."""
