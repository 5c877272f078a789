"""A flat apt repository (its one suite is `./`), as vendors have them: files, index and signature
in one folder."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Iterable
from email.utils import formatdate
from fnmatch import fnmatch
from pathlib import Path

from support.debian import debrepo


class FlatArchive:
    """The repository in `folder`, signed by `key`; `add` packages, then `publish`."""

    def __init__(self, folder: Path, key: debrepo.Key, *, origin: str, label: str) -> None:
        self.folder, self.key, self.origin, self.label = folder, key, origin, label
        self.entries: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, debs: Iterable[Path]) -> FlatArchive:
        """Take these files, by their names; a name that is there already stays."""
        for deb in debs:
            target = self.folder / deb.name
            if not target.exists():
                target.hardlink_to(deb)
            if deb.name not in self.entries:
                control = subprocess.run(["dpkg-deb", "--field", str(deb)], check=True,
                                         capture_output=True, text=True)
                data = deb.read_bytes()
                self.entries[deb.name] = (f"{control.stdout}Filename: ./{deb.name}\nSize: "
                                          f"{len(data)}\n"
                                          f"SHA256: {hashlib.sha256(data).hexdigest()}\n")
        return self

    def remove(self, pattern: str) -> FlatArchive:
        """Leave what fits `pattern` (a glob of file names) out of the next index."""
        self.entries = {name: entry for name, entry in self.entries.items()
                        if not fnmatch(name, pattern)}
        return self

    def publish(self, *, date: int = debrepo.DATE, valid_for_s: int | None = None) -> FlatArchive:
        """Write the index and sign it."""
        text = "\n".join(self.entries[name] for name in sorted(self.entries)).encode()
        sums = []
        for name, data in (("Packages", text), ("Packages.gz", gzip.compress(text, mtime=0))):
            (self.folder / name).write_bytes(data)
            sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
        until = (
            []
            if valid_for_s is None
            else [f"Valid-Until: {formatdate(date + valid_for_s, usegmt=True)}"]
        )
        release = "\n".join([f"Origin: {self.origin}", f"Label: {self.label}",
                             "Architecture: x86_64",
                             f"Date: {formatdate(date, usegmt=True)}", *until, "SHA256:", *sums,
                             ""])
        (self.folder / "Release").write_text(release, encoding="utf-8")
        (self.folder / "Release.gpg").write_text(self.key.detached(release), encoding="utf-8")
        (self.folder / "InRelease").write_text(self.key.clearsign(release), encoding="utf-8")
        return self
