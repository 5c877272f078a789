"""Files of Debian's packages in packages of other names: what a vendor's archive holds where it
cannot be reached.

A `Repack` says which files of which packages move where, and what in their text changes. dpkg-deb
builds the result; equal arguments give equal bytes. Programs and libraries are never changed, only
renamed.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.packages import mirrors
from goldenami.packages.apt import AptRoot, store_requests
from goldenami.packages.store import Store

from support.debian import debrepo


@dataclass(frozen=True)
class Move:
    """Files of package `origin` whose path `pattern` finds from its start, and where they go (a
    template of `re`)."""

    origin: str
    pattern: str
    target: str


@dataclass(frozen=True)
class Edit:
    """A replacement in the text of one file, by its new path; it has to be there."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Repack:
    """A package: its control fields, whose files it holds, and what stands in for files that nobody
    has.

    `files` and `links` are by path below the root; `scripts` are maintainer scripts by name.
    """

    name: str
    version: str
    source: str = ""
    depends: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    moves: Sequence[Move] = ()
    edits: Sequence[Edit] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return f"{self.name}_{self.version.rpartition(':')[2]}_amd64.deb"


class Origins:
    """Debian's own packages, unpacked below `folder`, each once; they come by this machine's
    store."""

    def __init__(self, folder: Path, release: str = "trixie") -> None:
        self.folder = folder
        sources = mirrors.sources("debian", release, backports=False)
        uris = mirrors.locate([source.archive for source in sources])
        self._apt = AptRoot(folder=folder / "apt", sources=tuple(sources), uris=uris)
        self._apt.configure()
        self._apt.update()

    def unpack(self, packages: Iterable[str]) -> None:
        wanted = [name for name in dict.fromkeys(packages) if not (self.folder / name).exists()]
        store = Store(CachePaths.default().folder)
        debs = [self._apt.file(name, self._apt.versions(name)[0]) for name in wanted]
        store.fetch(store_requests(debs, self._apt.uris))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(
                pool.map(
                    lambda deb: subprocess.run(
                        [
                            "dpkg-deb",
                            "--extract",
                            str(store.path(deb.sha256)),
                            str(self.folder / deb.name),
                        ],
                        check=True,
                    ),
                    debs,
                )
            )


def build(package: Repack, origins: Origins, folder: Path) -> Path:
    target = folder / package.file
    with tempfile.TemporaryDirectory(dir=folder) as name:
        tree = Path(name)
        for move in package.moves:
            _move(origins.folder / move.origin, move, tree)
        for edit in package.edits:
            _edit(tree / edit.path, edit)
        for path, text in package.files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text, encoding="utf-8")
            (tree / path).chmod(0o755 if text.startswith("#!") else 0o644)
        for path, destination in package.links.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).symlink_to(destination)
        _control(package, tree)
        for inner in tree.rglob("*"):
            if inner.is_dir() and not inner.is_symlink():
                inner.chmod(0o755)
        return debrepo.pack(tree, target, "-Zzstd", "-z1")


def _move(origin: Path, move: Move, tree: Path) -> None:
    """Hard links are enough: what is edited becomes a file of its own."""
    found = 0
    for path in sorted(origin.rglob("*")):
        place = path.relative_to(origin).as_posix()
        if (path.is_dir() and not path.is_symlink()) or not re.match(move.pattern, place):
            continue
        target = tree / re.sub(move.pattern, move.target, place, count=1)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target, follow_symlinks=False)
        found += 1
    assert found, f"{origin.name} has no file {move.pattern}"


def _edit(path: Path, edit: Edit) -> None:
    text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode
    assert edit.old in text, f"{edit.path} has no {edit.old}"
    path.unlink()
    path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    path.chmod(mode)


def _control(package: Repack, tree: Path) -> None:
    size = sum(
        path.lstat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink()
    )
    given = {
        "Package": package.name,
        "Version": package.version,
        "Source": package.source,
        "Architecture": "amd64",
        "Maintainer": "Test <t@localhost>",
        "Installed-Size": str(-(-size // 1024)),
        "Priority": "optional",
        "Depends": package.depends,
        **package.fields,
        "Description": f"stands in for {package.name}",
    }
    (tree / "DEBIAN").mkdir(mode=0o755)
    (tree / "DEBIAN/control").write_text(
        "".join(f"{key}: {value}\n" for key, value in given.items() if value), encoding="utf-8"
    )
    for name, text in package.scripts.items():
        (tree / "DEBIAN" / name).write_text(text, encoding="utf-8")
        (tree / "DEBIAN" / name).chmod(0o755)
