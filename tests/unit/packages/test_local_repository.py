from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.packages.apt import AptRoot, Deb
from goldenami.packages.download import StoreRequest
from goldenami.packages.local_repository import LocalRepository
from goldenami.packages.store import Store
from support.debian.debrepo import Package
from support.debian.resolver import Resolver


@pytest.fixture
def stored(resolver: Resolver, tmp_path: Path) -> tuple[Store, list[Deb]]:
    """A store with the closure of `tool`, one of them with an epoch."""
    root = resolver.root(
        [
            Package("base", fields={"Essential": "yes"}),
            Package("tool", "1:2.0+x~1-3", depends="lib"),
            Package("lib", "1.5"),
        ]
    )
    debs = root.solve(["?essential", "tool"])
    store = Store(tmp_path / "cache")
    store.fetch(
        StoreRequest(deb.sha256, deb.size, f"{root.uris['debian']}/{deb.path}", deb.name)
        for deb in debs
    )
    return store, debs


def test_apt_takes_exactly_what_is_in_it(
    stored: tuple[Store, list[Deb]], tmp_path: Path, offline: None
) -> None:
    store, debs = stored
    folder = LocalRepository(debs, "stable", 0).write(store, tmp_path / "repo")
    root = AptRoot(folder=tmp_path / "offline-root", sources=(), uris={}, local_repo=folder)
    root.configure()
    root.update()
    found = root.solve(["?essential", "tool"])
    assert [(deb.name, deb.version, deb.sha256) for deb in found] == [
        (deb.name, deb.version, deb.sha256) for deb in debs
    ]
    assert {deb.archive for deb in found} == {"built"}
    shell.output(
        ["apt-get", "install", "--download-only", "--yes", "tool"], env=root._env
    )  # reads and checks each file


def test_it_is_hard_links_and_always_the_same_bytes(
    stored: tuple[Store, list[Deb]], tmp_path: Path
) -> None:
    store, debs = stored
    one = LocalRepository(debs, "stable", 5).write(store, tmp_path / "one")
    two = LocalRepository(debs[::-1], "stable", 5).write(store, tmp_path / "two")
    for name in ("Packages", "Release", "complete"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert "Date: Thu, 01 Jan 1970 00:00:05 GMT\n" in (one / "Release").read_text(encoding="utf-8")
    for deb in debs:
        name = f"{deb.name}_{deb.version.replace(':', '%3a')}_amd64.deb"
        assert (one / name).stat().st_ino == store.path(deb.sha256).stat().st_ino


def test_a_complete_one_is_kept_and_a_half_one_replaced(
    stored: tuple[Store, list[Deb]], tmp_path: Path
) -> None:
    store, debs = stored
    folder = LocalRepository(debs, "stable", 0).write(store, tmp_path / "repo")
    before = folder.stat().st_ino
    assert LocalRepository(debs, "stable", 0).write(store, folder).stat().st_ino == before
    (folder / "complete").unlink()
    (folder / "junk").touch()
    LocalRepository(debs, "stable", 0).write(store, folder)
    assert not (folder / "junk").exists()
    LocalRepository(debs[:1], "stable", 0).write(store, folder)
    assert [path.suffix for path in folder.glob("*.deb")] == [".deb"]
    assert [path.name for path in tmp_path.glob("repo*")] == ["repo"]


def test_a_file_that_is_no_package_fails_it_and_leaves_no_repository(
    stored: tuple[Store, list[Deb]], tmp_path: Path
) -> None:
    store, debs = stored
    store.path(debs[0].sha256).write_bytes(b"not a deb")
    with pytest.raises(shell.CommandFailed, match="dpkg-deb"):
        LocalRepository(debs, "stable", 0).write(store, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()
