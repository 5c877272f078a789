"""Who owns this machine: the persons or teams that a notice names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from golden_idle import account

TAGS = ("Owner", "owner", "goldenami:user")
HUB = Path("etc/jupyter-machine.json")
"""The file by which a hub of notebooks says whose machine this is."""
_SLACK = re.compile(r"[UW][A-Z0-9]{8,14}")
_MAIL = re.compile(r"[^@ ]+@[^@ ]+")


def of_machine(root: Path) -> list[str]:
    """Return the owners, each once. The metadata service tells tags only where the launch lets
    it."""
    values = []
    for key in TAGS:
        with suppress(OSError, ValueError):  # there is no such tag, or none is told
            values.append(account.metadata(f"meta-data/tags/instance/{key}"))
    with suppress(OSError, ValueError, KeyError):
        values.append(json.loads((root / HUB).read_text(encoding="utf-8"))["user"])
    # Slack would take <!channel> of a tag for a call to everybody.
    names = (re.sub(r"[<>&]", "", "".join(filter(str.isprintable, value))) for value in values)
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def lines(owners: Sequence[str]) -> list[str]:
    """Return the line of a notice about the owners; one with an address is called by it."""
    if not owners:
        return ["Its owner is not known: the metadata service tells no tag `Owner`."]
    called = [f"<@{name}>" if _SLACK.fullmatch(name) else name for name in owners]
    line = f"Its owner{'s' * (len(owners) > 1)}: {', '.join(called)}."
    unreachable = [
        name for name in owners if not _SLACK.fullmatch(name) and not _MAIL.fullmatch(name)
    ]
    if unreachable:
        line += f" Please tell {', '.join(unreachable)}, who gave no address."
    return [line]
