"""A build of a lock as `bake` leaves its records: manifest, control data of every package in a
cache of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from goldenami.core import records
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import Host
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.packages.store import Store

from support.builds import report_data
from support.builds.checkout import ROOT

HOST = Host(
    cpus=2,
    python="3.13",
    packer="1.6.6",
    distribution="ubuntu-24.04",
    tools={"grub-pc-bin": "2.12-1ubuntu7", "grub-efi-amd64-bin": "2.12-1ubuntu7"},
)
PURGED = "ifupdown"
"""What the role os_updates purges: it is in the lock, and not in the tree."""


def committed(image: str) -> Lock:
    return lockfile.read(lockfile.path_of(ROOT, image))[0]


def listed(lock: Lock) -> list[str]:
    found = [
        f"/var/lib/dpkg/info/{name}{':amd64' if name.startswith('lib') else ''}.list"
        for name in lock.packages
        if name != PURGED
    ]
    return found + [
        f"/opt/ml/{home}/lib/python3.13/site-packages/"
        f"{file.project.replace('-', '_')}-{file.version}.dist-info/METADATA"
        for home, files in lock.environments().items()
        for file in files
    ]


def stock(store: Store, lock: Lock, sources: Callable[[str], str] = lambda _: "") -> None:
    """Control data of every package, with the field `Source` that `sources` gives it, else what the
    lock knows."""
    store.cache.control.mkdir(exist_ok=True)
    for name, package in lock.packages.items():
        source = sources(name) or (package.source if package.source != name else "")
        text = (
            f"Package: {name}\n"
            + (f"Source: {source}\n" if source else "")
            + f"Version: {package.version}\n"
        )
        (store.cache.control / package.sha256).write_text(text, encoding="utf-8")


def build(root: Path, lock: Lock, paths: Iterable[str] | None = None) -> BuildFolder:
    """The build of a lock in the checkout `root`, whose tree has `paths`, by default those that it
    has to."""
    digest = records.sha256_text(lockfile.text_of(lock))
    folder = ImageFolder.of(root, lock.image).build(digest[: lockfile.ID_LENGTH])
    records.write(folder.bake, report_data.bake_record(lock.model_dump(mode="json"), host=HOST))
    entries = [{"path": path} for path in (listed(lock) if paths is None else paths)]
    records.write_text(folder.manifest, json.dumps({"entries": entries}))
    records.write_text(folder.lock, lockfile.text_of(lock))
    return folder
