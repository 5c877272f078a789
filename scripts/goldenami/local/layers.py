"""Root trees kept under a key of all their inputs, so that equal work is done once.

A layer appears under its key by a rename, complete or not at all; a process that is killed leaves a folder
that no key names, which the next one removes.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from goldenami import records
from goldenami.local import rootfs

BASE_EPOCH = 315532800
"""1980-01-01: a base tree is shared by locks of different dates, so it carries none of them."""


def base(plan: dict[str, Any], log: Path) -> tuple[Path, bool]:
    """The base tree of a plan and whether it was there already."""
    key = records.sha256_text(plan["base_key"] + records.sha256_file(Path(rootfs.__file__)))[:16]
    folder = Path(plan["layers"]) / f"base-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # two images with one base: the second waits and reuses
        if (folder / "root").is_dir():
            return folder / "root", True
        tree = rootfs.Tree(suite=plan["suite"], repo=Path(plan["repo"]), include=plan["include"],
                           architecture=plan["architecture"])
        rootfs.bootstrap(tree, folder / "root", log=log, epoch=BASE_EPOCH)
    return folder / "root", False
