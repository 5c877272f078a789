"""`golden store` and `golden bake --fetch-only` on a store that a synthetic mirror has filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from goldenami.core.records import sha256_file
from goldenami.packages.store import Store
from support.debian import debrepo
from support.debian.lock_commands import IMAGE, golden

pytestmark = pytest.mark.usefixtures("debian")


def stored(root: Path, cache: Path, name: str) -> Path:
    """The object of a locked package."""
    lock = json.loads((root / f"packer/locks/{IMAGE}.lock.json").read_text(encoding="utf-8"))
    return Store(cache).path(lock["packages"][name]["sha256"])


def test_damage_is_found_removed_and_repaired(
    locked: Path, tmp_path: Path, debian: debrepo.Mirror
) -> None:
    corrupted, truncated = (stored(locked, tmp_path / "cache", name) for name in ("less", "bash"))
    corrupted.write_bytes(bytes(byte ^ 1 for byte in corrupted.read_bytes()))
    truncated.write_bytes(truncated.read_bytes()[:100])
    found = golden(locked, "store", "verify")
    assert found.returncode == 5
    assert sorted(found.stdout.splitlines()[:2]) == sorted(
        f"damaged and removed: {path.name}" for path in (corrupted, truncated)
    )
    assert found.stdout.endswith("objects are whole, 2 were damaged\n")
    assert not corrupted.exists() and not truncated.exists()
    assert golden(locked, "bake", IMAGE, "--fetch-only").returncode == 0
    assert golden(locked, "store", "verify").returncode == 0
    assert all(sha256_file(path) == path.name for path in (corrupted, truncated))
