"""A flat apt repository (its one suite is `./`), as vendors have them: files, index and signature
in one folder."""

from __future__ import annotations

from collections.abc import Iterable
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
                self.entries[deb.name] = debrepo.stanza(deb, f"./{deb.name}")
        return self

    def remove(self, pattern: str) -> FlatArchive:
        """Leave what fits `pattern` (a glob of file names) out of the next index."""
        self.entries = {
            name: entry for name, entry in self.entries.items() if not fnmatch(name, pattern)
        }
        return self

    def publish(self, *, date: int = debrepo.DATE, valid_for_s: int | None = None) -> FlatArchive:
        text = "\n".join(self.entries[name] for name in sorted(self.entries))
        debrepo.write_suite(
            self.folder,
            self.key,
            {"Packages": text},
            [
                f"Origin: {self.origin}",
                f"Label: {self.label}",
                "Architecture: x86_64",
                *debrepo.dated(date, valid_for_s),
            ],
        )
        return self
