"""`golden store` and `golden bake --fetch-only` on a store that a synthetic mirror has filled."""

from __future__ import annotations

import json
import os
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
        f"damaged and removed: {path.name}" for path in (corrupted, truncated))
    assert found.stdout.endswith("objects are whole, 2 were damaged\n")
    assert not corrupted.exists() and not truncated.exists()
    assert golden(locked, "bake", IMAGE, "--fetch-only").returncode == 0
    assert golden(locked, "store", "verify").returncode == 0
    assert all(sha256_file(path) == path.name for path in (corrupted, truncated))


def test_a_damaged_file_is_fetched_again_before_it_is_used(
    locked: Path, tmp_path: Path, debian: debrepo.Mirror,
) -> None:
    """Without anybody asking `store verify`: a bake begins with this."""
    corrupted, truncated = (stored(locked, tmp_path / "cache", name) for name in ("less", "bash"))
    corrupted.write_bytes(bytes(corrupted.stat().st_size))
    truncated.write_bytes(b"")
    debian.requests.clear()
    assert golden(locked, "bake", IMAGE, "--fetch-only").returncode == 0
    assert sorted(Path(path).name.partition("_")[0] for path in debian.requests) == ["bash", "less"]
    assert all(sha256_file(path) == path.name for path in (corrupted, truncated))
    corrupted.write_bytes(bytes(corrupted.stat().st_size))
    assert golden(locked, "lock", IMAGE).returncode == 0
    assert sha256_file(corrupted) == corrupted.name


def test_a_remote_store_that_is_not_configured(locked: Path) -> None:
    done = golden(locked, "store", "push")
    assert done.returncode == 2
    assert "no remote store is configured" in done.stderr
    for command in (("store", "verify"), ("bake", IMAGE, "--fetch-only")):
        wrong = golden(locked, *command, GOLDEN_STORE_S3="/srv/store")
        assert wrong.returncode == 2, command
        assert "`/srv/store` is no location of S3" in wrong.stderr


def test_downloads_go_through_apts_proxy(
    locked: Path, tmp_path: Path, debian: debrepo.Mirror, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Indexes and packages of a mirror whose name nobody can resolve, by a proxy that the machine's
    apt names."""
    config = Path(os.environ["APT_CONFIG"])
    config.write_text(config.read_text(encoding="utf-8")
                      + f'Acquire::http::Proxy "{debian.uri}";\n', encoding="utf-8")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", "http://mirror.invalid/debian")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", "http://mirror.invalid/security")
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "other"))
    done = golden(locked, "lock", IMAGE)
    assert done.returncode == 0, done.stderr
    assert stored(locked, tmp_path / "other", "less").exists()
