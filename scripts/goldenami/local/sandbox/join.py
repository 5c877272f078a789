"""`python -m goldenami.local.sandbox.join CGROUP -- ARGV...`: enter a cgroup, prepare the
namespace, exec."""

from __future__ import annotations

import os
import sys

from goldenami.local.sandbox import namespaces


def main() -> None:
    """Join the cgroup that argv names, make the namespaces usable, become the command."""
    cgroup, separator, *argv = sys.argv[1:]
    if separator != "--" or not argv:
        raise SystemExit("usage: python -m goldenami.local.sandbox.join CGROUP -- COMMAND "
                         "[ARGUMENT...]")
    namespaces.join(cgroup)
    namespaces.prepare()
    os.execvp(argv[0], argv)  # noqa: S606 - becoming the command is what this is for


if __name__ == "__main__":
    main()
