"""The `reproduce` stage: one lock baked twice and compared byte for byte.

Both bakes begin from nothing, in different folders; the second runs as if on another machine on
another day.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami.core.errors import StageFailed
from goldenami.local.disk import compare
from goldenami.local.host.other_machine import another_machine
from goldenami.model.builds.build_records import BakeRecord

SHOWN = 20
"""Most differing files in an error: if there are more, they have one cause."""
LOOKED_INTO = 3
"""Most differing files whose content is compared: the bytes of more files say the same."""

Manifest = dict[str, dict[str, Any]]
BakeOnce = Callable[[Path, Path], BakeRecord]


@dataclass(frozen=True)
class _Bake:
    record: BakeRecord
    disk: Path
    manifest: Manifest


def run(bake_once: BakeOnce, scratch: Path) -> str:
    """Bake twice below `scratch` and compare. Returns one line; raises StageFailed with the
    differences.

    `bake_once(work, layers)` bakes into the empty folder `work`, with base trees of its own in
    `layers`.
    """
    first = _bake(bake_once, scratch / "first")
    with another_machine() as conditions:
        second = _bake(bake_once, scratch / "the-second")
    if first.record.disk_sha256 == second.record.disk_sha256:
        return (
            f"reproduced: both disks have SHA-256 {first.record.disk_sha256}; "
            f"the second was baked {conditions}"
        )
    raise _failure(first, second, conditions, scratch)


def _bake(bake_once: BakeOnce, work: Path) -> _Bake:
    work.mkdir()
    record = bake_once(work, work / "layers")
    shutil.rmtree(work / "layers", ignore_errors=True)
    entries = json.loads((work / "out/manifest.json").read_text(encoding="utf-8"))["entries"]
    return _Bake(record, work / "out/disk.raw", {entry["path"]: entry for entry in entries})


def _failure(first: _Bake, second: _Bake, conditions: str, scratch: Path) -> StageFailed:
    lines = differences(first.manifest, second.manifest)
    build = f"two bakes of {first.record.build_id} differ"
    if not lines:
        note = first.record.disk.note if first.record.disk else ""
        tools = ", ".join(f"{name} {version}" for name, version in second.record.host.tools.items())
        return StageFailed(
            f"{build} in the disk, but in no file",
            tail="\n".join([*compare.places(first.disk, second.disk), f"made by {tools}"]),
            hint=note
            or f"the second was baked {conditions}; it is one of the programs that write the disk, "
            "not a role",
        )
    tail = lines[:SHOWN]
    for path in _files(first.manifest, second.manifest)[:LOOKED_INTO]:
        tail += compare.contents(first.disk, second.disk, path, scratch / "compare")
    return StageFailed(
        f"{build}: {len(lines)} files",
        tail="\n".join(tail),
        hint=f"the second was baked {conditions}; make the role that writes these files "
        "deterministic, or have `seal` remove them",
    )


def _files(first: Manifest, second: Manifest) -> list[str]:
    before, after = _digests(first), _digests(second)
    return sorted(path for path in before.keys() & after.keys() if before[path] != after[path])


def _digests(manifest: Manifest) -> dict[str, str]:
    return {path: entry["sha256"] for path, entry in manifest.items() if "sha256" in entry}


def differences(first: Manifest, second: Manifest) -> list[str]:
    """One line for each path that is not equal in both manifests, with the keys that differ."""
    lines = []
    for path in sorted(first.keys() | second.keys()):
        before, after = first.get(path), second.get(path)
        if before is None or after is None:
            bake = "second" if before is None else "first"
            lines.append(f"{path}: only in the {bake}")
        elif before != after:
            keys = sorted(key for key in before | after if before.get(key) != after.get(key))
            lines.append(f"{path}: {', '.join(keys)}")
    return lines
