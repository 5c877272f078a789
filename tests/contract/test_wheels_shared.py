"""Builders that share a cache, with ccache's own program."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from goldenami.image.lock.compilation import wheel_builds
from goldenami.model.builds.lockfile import Lock
from goldenami.packages import store
from goldenami.packages.pypi import PyFile
from support.debian.demo_wheel import build, order, sdist

pytestmark = pytest.mark.slow


def machine(kept: store.Store, folder: Path) -> store.Store:
    """Another builder: it has the same packages, and a ccache of its own."""
    folder.mkdir()
    (folder / "store").symlink_to(kept.root)
    return store.Store(folder)


def never_seen(kept: store.Store, folder: Path) -> PyFile:
    """A source that no cache knows."""
    return sdist(kept, folder, answer=f"42 + 0 * {secrets.randbits(31)}")


def test_a_builder_compiles_nothing_that_another_has_put_into_the_shared_cache(
    lock: Lock, kept: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, shared = never_seen(kept, tmp_path), tmp_path / "shared"
    shared.mkdir()
    first, second, alone = (machine(kept, tmp_path / name) for name in ("first", "second", "alone"))
    wanted = order(lock, kept, tmp_path, source)
    monkeypatch.setenv(wheel_builds.REMOTE, f"file:{shared}")
    assert build(wanted, first, tmp_path).cache == {"hits": 0, "misses": 1}
    assert build(wanted, second, tmp_path).cache == {"hits": 1, "misses": 0}
    monkeypatch.delenv(wheel_builds.REMOTE)
    assert build(wanted, alone, tmp_path).cache == {"hits": 0, "misses": 1}
