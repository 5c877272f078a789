"""A local apt repository with exactly the files that a lock names. A bake installs from nothing
else."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from debian.arfile import ArFile

from goldenami.core import records, shell
from goldenami.core.errors import BadInput
from goldenami.core.process import ProcessId, is_left
from goldenami.packages.apt import Deb
from goldenami.packages.store import Store


@dataclass(frozen=True)
class LocalRepository:
    """A flat repository of `debs`. `suite` is the codename under which mmdebstrap looks for
    essential packages. `epoch` (seconds since 1970) is the date in its Release file. `views` are
    further indexes, each with the SHA-256 of its packages. `files` has other files, which apt does
    not read, as path -> SHA-256."""

    debs: Collection[Deb]
    suite: str
    epoch: int
    views: Mapping[str, Collection[str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, store: Store, folder: Path) -> Path:
        """Write the repository to `folder`, hard-linked from the store, and return `folder`. A
        complete one that is still linked to the store is kept."""
        aside = folder.with_name(f"{folder.name}.{ProcessId.current()}")
        for abandoned_folder in [aside, *abandoned(folder.parent, folder.name)]:
            shutil.rmtree(abandoned_folder, ignore_errors=True)
        debs, expected, complete = self._sorted, self._digest, folder / "complete"
        if (
            complete.exists()
            and complete.read_text(encoding="utf-8") == expected
            and self._is_linked(store, folder)
        ):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        aside.mkdir(parents=True)
        with ThreadPoolExecutor() as pool:
            stanzas = list(pool.map(lambda deb: _stanza(store, deb), debs))
        for deb in debs:
            link(store.path(deb.sha256), aside / _file(deb))
        for path, sha256 in self.files.items():
            (aside / path).parent.mkdir(exist_ok=True)
            link(store.path(sha256), aside / path)
        self._index(aside, stanzas)
        for view, digests in self.views.items():
            chosen = [
                stanza for deb, stanza in zip(debs, stanzas, strict=True) if deb.sha256 in digests
            ]
            self._index(aside / view, chosen)
        records.write_text(aside / "complete", expected)
        try:
            aside.rename(folder)
        except OSError:
            # Another process was first. Its folder has the same name, and so the same content.
            shutil.rmtree(aside)
        return folder

    @property
    def _sorted(self) -> list[Deb]:
        return sorted(self.debs, key=lambda deb: deb.name)

    @property
    def _digest(self) -> str:
        lines = [deb.sha256 for deb in self._sorted]
        lines += [f"{view} {sorted(digests)}" for view, digests in sorted(self.views.items())]
        lines += [f"{path} {sha256}" for path, sha256 in sorted(self.files.items())]
        return records.sha256_text("\n".join(lines))

    def _index(self, folder: Path, stanzas: Iterable[str]) -> None:
        packages = "\n".join(stanzas)
        records.write_text(folder / "Packages", packages)
        records.write_text(folder / "Release", _release(packages, self.suite, self.epoch))

    def _is_linked(self, store: Store, folder: Path) -> bool:
        """Whether every file is still the store's own. If the store fetched a damaged object anew,
        that is another file."""
        digests = {**{_file(deb): deb.sha256 for deb in self._sorted}, **self.files}
        try:
            return all(
                (folder / name).samefile(store.path(sha256)) for name, sha256 in digests.items()
            )
        except FileNotFoundError:
            return False


def abandoned(folder: Path, name: str = "*") -> list[Path]:
    """Return folders with half a repository that killed processes left; their names end with the
    process."""
    return [path for path in sorted(folder.glob(f"{name}.*")) if path.is_dir() and is_left(path)]


def built_at(store: Store, deb: Deb) -> int:
    """Return when the package was built, in seconds since 1970: the date of the first member of its
    archive (deb(5))."""
    return int(ArFile(str(store.path(deb.sha256))).getmembers()[0].mtime)


def contents(folder: Path) -> set[str]:
    """Return the SHA-256 of every package in the repository; none if there is no index."""
    index = folder / "Packages"
    if not index.is_file():
        return set()
    return set(re.findall(r"^SHA256: (\w+)$", index.read_text(encoding="utf-8"), re.M))


def _file(deb: Deb) -> str:
    return f"{deb.name}_{deb.version.replace(':', '%3a')}_{deb.architecture}.deb"


def link(source_file: Path, target: Path) -> None:
    """Make a hard link, or a copy if there can be none, as between two file systems."""
    try:
        os.link(source_file, target)
    except OSError:
        shutil.copyfile(source_file, target)


def control(store: Store, deb: Deb) -> str:
    """Return a package's control data, which is read once and kept beside the store. Raises
    BadInput if the store lacks the file."""
    cached = store.cache.control / deb.sha256
    if not cached.exists():
        if not store.path(deb.sha256).is_file():
            raise BadInput(
                f"the store has no {_file(deb)}",
                hint="`golden bake IMAGE --fetch-only` has it again",
            )
        records.write_text(
            cached, shell.output(["dpkg-deb", "--field", str(store.path(deb.sha256))])
        )
    return cached.read_text(encoding="utf-8").rstrip("\n")


def _stanza(store: Store, deb: Deb) -> str:
    return (
        f"{control(store, deb)}\nFilename: ./{_file(deb)}\nSize: {deb.size}\nSHA256: {deb.sha256}\n"
    )


def _release(packages: str, suite: str, epoch: int) -> str:
    size = len(packages.encode())
    return (
        f"Origin: goldenami\nLabel: goldenami\nSuite: {suite}\nCodename: {suite}\n"
        f"Date: {formatdate(epoch, usegmt=True)}\nSHA256:\n {records.sha256_text(packages)} "
        f"{size} Packages\n"
    )
