"""Builders that share a cache, and a machine that compiles along: ccache's and distcc's own programs, on loopback."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.compilation import wheel_builds
from goldenami.model.lockfile import Lock
from goldenami.packages import store
from goldenami.packages.pypi import PyFile
from support.builds.tools import find
from support.debian.demo_wheel import build, order, sdist

pytestmark = pytest.mark.slow
START_LIMIT_S = 30


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


@pytest.fixture
def compile_farm(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """distccd with this machine's own compiler: its host list, by this machine's name, and its log."""
    log, name = tmp_path / "distccd.log", socket.gethostname()
    address = socket.gethostbyname(name)
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    argv = [find("distccd"), "--no-detach", "--daemon", "--listen", address, "--port", str(port),
            "--allow", address, "--jobs", "2", "--log-stderr"]
    with log.open("w") as output, subprocess.Popen(argv, stderr=output) as server:
        try:
            until = time.monotonic() + START_LIMIT_S
            while not _listens(address, port) and server.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            yield f"{name}:{port}/2", log
        finally:
            server.send_signal(signal.SIGTERM)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def test_another_machine_that_is_known_by_its_name_compiles_along(
    lock: Lock, kept: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compile_farm: tuple[str, Path],
) -> None:
    hosts, log = compile_farm
    monkeypatch.setenv(wheel_builds.DISTCC, hosts)
    wanted = order(lock, kept, tmp_path, never_seen(kept, tmp_path))
    assert build(wanted, kept, tmp_path).cache == {"hits": 0, "misses": 1}
    assert "demo.cpp" in next(line for line in log.read_text(encoding="utf-8").splitlines() if "COMPILE_OK" in line)
