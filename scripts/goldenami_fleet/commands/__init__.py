"""The commands of goldenami_fleet, with their tables for `goldenami.cli`. Its help reads them, so
nothing slow is imported here."""

AREAS = {
    "Accounts": {"account": "account", "selftest": "selftest"},
    "Published images": {"regions": "regions", "costs": "costs"},
    "Running instances": {"cluster": "cluster", "drift": "drift", "digest": "digest"},
}
"""As `goldenami.cli.AREAS`."""
CONTINUED = frozenset({"account", "cluster", "digest", "selftest"})
"""As `goldenami.cli.CONTINUED`."""
