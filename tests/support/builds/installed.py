"""What has to be so after the scenario `installs`, on any immutable image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from goldenami.local.disk import boot_regions
from goldenami.local.reader.block_source import RawFile

from support.builds.installs import ENVIRONMENTS, GONE, REFUSED, WRITTEN


def check(told: dict[str, Any], baked: Path, again: Path) -> None:
    before, after = told["before"], told["after"]
    assert told["clean"], "it did not power off by itself"
    for path in ENVIRONMENTS:
        assert before["installed"][path].startswith(f"{path}/lib/python3."), before["installed"][
            path
        ]
        assert after["imported"][path] == before["installed"][path]
    assert {
        path: said for path, said in before["written"].items() if path not in REFUSED and said
    } == {}
    assert all("Read-only file system" in before["written"][path] for path in REFUSED), before[
        "written"
    ]
    assert {path: after["read"][path] for path in WRITTEN} == dict.fromkeys(WRITTEN, "mine")
    assert all("No such file" in after["read"][path] for path in (*GONE, *REFUSED)), after["read"]
    assert re.search(r"status: +verified", after["status"]), after["status"]
    assert after["state"] == "running", after["state"]
    for name in ("root", "tree"):
        assert differing(baked, again, name) == [], f"partition {name} was written"


def differing(baked: Path, again: Path, name: str) -> list[int]:
    one, other, piece = RawFile(baked), RawFile(again), 1 << 20
    (found,) = [entry for entry in boot_regions.partitions(one.read) if entry["name"] == name]
    begin, end = found["offset"], found["offset"] + found["size"]
    return [
        at
        for at in range(begin, end, piece)
        if one.read(at, min(piece, end - at)) != other.read(at, min(piece, end - at))
    ]
