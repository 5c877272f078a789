"""Programs that run in namespaces of their own, each as `python -m goldenami.local.programs.NAME
PLAN`."""
