"""NVIDIA's list of data center drivers, which it publishes for automation. It has the branches and
their kinds, not their CUDA nor their ends."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import date
from pathlib import Path

from goldenami.core import clock, records
from goldenami.core.errors import Unreachable
from goldenami.model.supported import compatibility
from goldenami.model.supported.compatibility import BranchKind, DriverBranch, DriverTable
from goldenami.packages import http_documents, mirrors

RELEASES = "https://docs.nvidia.com/datacenter/tesla/drivers/releases.json"
VARIABLE = mirrors.variable("nvidia-releases")
"""Environment variable with the address of a copy."""


def read() -> dict[str, BranchKind | None]:
    """Return the branches with their kinds, None for a kind that is new. Raises Unreachable, also
    for another layout."""
    address = os.environ.get(VARIABLE) or RELEASES
    kinds = {f"{kind} branch": kind for kind in BranchKind}
    try:
        listed = http_documents.read(address).json(address).items()
        return {str(int(branch)): kinds.get(row["type"]) for branch, row in listed}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unreachable(
            f"{address} is no list of drivers: {error!r}", hint="has NVIDIA changed its layout?"
        ) from None


def proposed(table: DriverTable, kinds: dict[str, BranchKind | None]) -> dict[str, DriverBranch]:
    """Return the rows that `table` lacks or has with another kind. Branches before its first one
    have ended long ago."""
    first, rows = min(map(int, table.branches)), dict[str, DriverBranch]()
    for branch in sorted(kinds, key=int):
        row, kind = table.branches.get(branch), kinds[branch]
        if row is None and int(branch) > first:
            rows[branch] = DriverBranch(kind=kind)
        elif row and row.kind and kind and row.kind is not kind:
            rows[branch] = row.model_copy(update={"kind": kind})
    return rows


def messages(table: DriverTable, today: date) -> list[str]:
    """Return what `watch` says of the table: its age, and a message for each proposed row.

    A list that cannot be read is no error: it tells nothing that the table's age does not.
    """
    texts = list(filter(None, [table.stale(today)]))
    try:
        rows = proposed(table, read())
    except Unreachable:
        return texts
    return texts + [
        f"{compatibility.TABLE} lacks the row that NVIDIA's list has now: {_line(branch, row)}; "
        "add its cuda and end (docs/adding.md)"
        for branch, row in rows.items()
    ]


def _line(branch: str, row: DriverBranch) -> str:
    return f'"{branch}": {json.dumps(row.model_dump(mode="json", exclude_none=True))}'


def main(root: Path) -> int:
    """Write the rows of the branches anew, with the kinds that NVIDIA's list has today. Facts that
    it lacks stay."""
    path, table = root / compatibility.TABLE, compatibility.load(root)
    rows = table.branches | proposed(table, read())
    head = path.read_text(encoding="utf-8").partition("\nbranches:\n")[0]
    head = re.sub("(?m)^read: .*$", f"read: {clock.now().date()}", head)
    lines = [f"  {_line(branch, rows[branch])}\n" for branch in sorted(rows, key=int)]
    records.write_text(path, f"{head}\nbranches:\n{''.join(lines)}")
    print(f"{path}: {len(rows)} branches, {len(rows) - len(table.branches)} of them new")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
