"""Packages of Debian taken apart, changed and built again: the same input gives the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822

from support.debian import debrepo

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Repacked:
    """A package file, and its stanza of an index without Filename."""

    file: Path
    control: Deb822

    @property
    def name(self) -> str:
        return str(self.control["Package"])


@contextlib.contextmanager
def unpacked(deb: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="golden-deb-") as folder:
        tree = Path(folder) / "tree"
        _run("dpkg-deb", "--raw-extract", str(deb), str(tree))
        yield tree


def fields(tree: Path, **changes: str | None) -> Deb822:
    """Change fields of a tree's control file, `Pre_Depends` for Pre-Depends; None takes one
    away."""
    path = tree / "DEBIAN/control"
    control = Deb822(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        control.pop(name.replace("_", "-"), None)
        if value is not None:
            control[name.replace("_", "-")] = value
    path.write_text(control.dump(), encoding="utf-8")
    return control


def build(tree: Path, folder: Path) -> Repacked:
    """The package of `tree` in `folder`, every file as old as the one it was made from."""
    (tree / "DEBIAN/md5sums").unlink(missing_ok=True)
    control = Deb822((tree / "DEBIAN/control").read_text(encoding="utf-8"))
    version = control["Version"].rpartition(":")[2]
    target = folder / f"{control['Package']}_{version}_{control['Architecture']}.deb"
    dates = [
        int(path.stat().st_mtime)
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and path.parent.name != "DEBIAN"
    ]
    return described(
        debrepo.pack(tree, target, "-Zzstd", "-z1", epoch=max(dates, default=debrepo.DATE))
    )


def described(deb: Path) -> Repacked:
    control = Deb822(_run("dpkg-deb", "--field", str(deb)))
    data = deb.read_bytes()
    control["Size"], control["SHA256"] = str(len(data)), hashlib.sha256(data).hexdigest()
    return Repacked(deb, control)


def put(tree: Path, name: str, text: str, like: str) -> None:
    """Write a file that is as old as `like`, so that a repacked package has no new date."""
    path, when = tree / name, (tree / like).lstat().st_mtime
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (when, when))


def rename(tree: Path, names: Mapping[str, str]) -> None:
    """Replace words in the text of every file, in links' targets and in paths below `tree`."""
    pattern = re.compile("|".join(re.escape(old) for old in names).encode())
    words = {old.encode(): new.encode() for old, new in names.items()}
    for path in sorted(tree.rglob("*"), reverse=True):  # what is in a folder before the folder
        stat = path.lstat()
        if path.is_symlink():
            target = os.fsencode(path.readlink())
            if pattern.search(target):
                path.unlink()
                path.symlink_to(os.fsdecode(pattern.sub(lambda found: words[found[0]], target)))
        elif path.is_file() and b"\0" not in (data := path.read_bytes()) and pattern.search(data):
            path.write_bytes(pattern.sub(lambda found: words[found[0]], data))
            os.utime(path, (stat.st_mtime, stat.st_mtime))
        if pattern.search(name := os.fsencode(path.name)):
            path.rename(
                path.with_name(os.fsdecode(pattern.sub(lambda found: words[found[0]], name)))
            )


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
