"""The `reproduce` stage: one lock baked twice, in different folders and from nothing, compared byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goldenami.build_records import BakeRecord
from goldenami.errors import StageFailed

SHOWN = 20
"""Differing files in the message's lines; more than these and the cause is one, not many."""


def run(bake_once: Callable[[Path, Path], BakeRecord], scratch: Path) -> str:
    """Bake twice below `scratch` and compare; returns one line, or StageFailed naming the files that differ.

    `bake_once(work, layers)` bakes into the empty folder `work` with base trees of its own in `layers`.
    """
    found: list[BakeRecord] = []
    manifests: list[dict[str, dict[str, Any]]] = []
    for name in ("first", "the-second"):
        work = scratch / name
        work.mkdir()
        found.append(bake_once(work, work / "layers"))
        entries = json.loads((work / "out/manifest.json").read_text(encoding="utf-8"))["entries"]
        manifests.append({entry["path"]: entry for entry in entries})
        (work / "out/disk.raw").unlink()
        shutil.rmtree(work / "layers", ignore_errors=True)
    first, second = found
    if first.disk_sha256 == second.disk_sha256:
        return f"reproduced: both disks have SHA-256 {first.disk_sha256}"
    lines = differences(*manifests)
    raise StageFailed(
        f"two bakes of {first.build_id} differ: {len(lines)} files" if lines else
        f"two bakes of {first.build_id} differ in the disk, but in no file", tail="\n".join(lines[:SHOWN]),
        hint="make the role that writes these files deterministic, or have `seal` remove them",
    )


def differences(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each path that is not the same in both manifests, with what differs."""
    lines = []
    for path in sorted(first.keys() | second.keys()):
        one, other = first.get(path), second.get(path)
        if one is None or other is None:
            lines.append(f"{path}: only in the {'second' if one is None else 'first'}")
        elif one != other:
            lines.append(f"{path}: {', '.join(sorted(key for key in one | other if one.get(key) != other.get(key)))}")
    return lines
