"""Write the manifest of a disk that was not written here: what its file system holds, in the form
of a bake's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from goldenami.core import records
from goldenami.local.disk import boot_regions
from goldenami.local.reader.block_source import BlockSource
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.observe import Observation, Region, observe
from goldenami.local.reader.path_state import CAPABILITY, PathState
from goldenami.local.tree import owners

_LISTS = (
    r"/var/lib/dpkg/info/[\w.+:-]+\.list"
    r"|/opt/ml/[\w.-]+/lib/python3[\w.]*/site-packages/[\w.+-]+\.dist-info/RECORD"
)
_ANY_EXT = slice(1080, 1082), b"\x53\xef"
"""Place and value of the signature of Linux' ext file systems (ext4, "Super Block")."""


def write(disk: BlockSource, path: Path, scratch: Path) -> dict[str, int]:
    """Write the manifest of `disk` to `path`, and return the bytes by package, as `owners.sizes`
    does. `scratch` gets the packages' lists of files.

    Raises Unreadable if the disk cannot be read as a whole, or has a second file system that Linux
    writes to.
    """
    whole = Region(disk, 0, disk.size)
    boot = boot_regions.describe(whole.read)
    root = boot_regions.root(boot["partitions"])
    _refuse_second(whole, [entry for entry in boot["partitions"] if entry is not root])
    system = Region(disk, root["offset"], root["size"])
    # Once for the sizes, which decide what is hashed; then once more with hashes and file lists.
    first = observe(Observation(system, {}, {}, kept=""))
    sizes = dict.fromkeys((state.path for state in first.states), -1)
    sizes |= {state.path: state.size for state in first.states if state.kind == "file"}
    states = observe(Observation(system, {}, sizes, _LISTS)).states
    for state in states:
        if re.fullmatch(_LISTS, state.path):
            listing = scratch / state.path[1:]
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text(state.text or "", encoding="utf-8", errors="surrogateescape")
    packages = owners.packages(scratch)
    boot["settings"] = {boot_regions.ROOT: first.settings}
    rows = ",\n".join(
        json.dumps(_row(state, packages.get(state.path, "")), sort_keys=True) for state in states
    )
    records.write_text(
        path,
        f'{{"boot": {json.dumps(boot, sort_keys=True)},\n"entries": [\n{rows}\n], "format": 1}}\n',
    )
    return owners.sizes(scratch, path)


def _refuse_second(disk: Region, partitions: list[dict[str, Any]]) -> None:
    """Raise Unreadable if another partition has a file system of Linux."""
    # What is mounted from there changes at each mount, and its files would be in no manifest.
    for entry in partitions:
        if entry["size"] < 4096:
            continue
        start = disk.read(entry["offset"], 4096)
        if start[_ANY_EXT[0]] == _ANY_EXT[1]:
            raise Unreadable(f"partition {entry['name']} is a second file system beside the root")


def _row(state: PathState, package: str) -> dict[str, object]:
    """Return a row as `tree.write_manifest` has it, with what only a disk can have: other
    attributes, and flags."""
    row: dict[str, object] = {
        "path": state.path,
        "type": state.kind,
        "mode": f"{state.mode:04o}",
        "uid": state.uid,
        "gid": state.gid,
    }
    if state.kind == "file":
        row |= {"size": state.size, "sha256": state.sha256}
    if state.kind in ("character", "block"):
        row["device"] = list(state.device)
    if package and state.kind != "directory":
        row["package"] = package
    attributes = {name: value for name, value in state.attributes.items() if name != CAPABILITY}
    optional = {
        "target": state.target,
        "capability": state.attributes.get(CAPABILITY),
        "attributes": attributes,
        "flags": state.flags,
    }
    return row | {name: value for name, value in optional.items() if value}
