"""Fixtures: this machine's store, and a checkout for `golden watch`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core.cache_paths import CachePaths
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.packages import apt, store
from support.builds.checkout import ROOT
from support.debian import debrepo, watch_checkout
from support.debian.watch_checkout import WatchCheckout
from support.loopback import Loopback, QuietHandler


@pytest.fixture
def kept() -> store.Store:
    """This machine's own store, which is full of what the slow tests need."""
    return store.Store(CachePaths.default().folder)


@pytest.fixture(scope="module")
def lock() -> Lock:
    """The lock of the smallest image, as it stands in the checkout."""
    return lockfile.read(lockfile.path_of(ROOT, "debian-13-ml-cpu"))[0]


@pytest.fixture(scope="session")
def watched(
    distribution: Path,
    key: debrepo.Key,
    tmp_path_factory: pytest.TempPathFactory,
    lockable: Callable[[Path], Path],
) -> Iterator[Path]:
    """The CPU image's lock and its store, made once from the synthetic archives."""
    folder, served = tmp_path_factory.mktemp("once"), debrepo.Mirror(distribution)
    root = lockable(folder / "checkout")
    with pytest.MonkeyPatch.context() as patch:
        watch_checkout.environment(patch, key, folder / "cache", served.uri)
        patch.chdir(root)
        assert cli.main(["lock", watch_checkout.IMAGE]) == 0
    served.close()
    yield folder


@pytest.fixture
def checkout(
    watched: Path,
    distribution: Path,
    key: debrepo.Key,
    offline: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[WatchCheckout]:
    shutil.copytree(watched / "checkout", tmp_path / "checkout")
    shutil.copytree(watched / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("apt"))
    served = tmp_path / "served"
    served.mkdir()
    for name in ("debian", "security"):
        (served / name).symlink_to(distribution / name)
    mirror = debrepo.Mirror(served)
    watch_checkout.environment(monkeypatch, key, tmp_path / "cache", mirror.uri)
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setattr(apt, "FETCH_TIMEOUT_S", 30)
    monkeypatch.setattr(apt, "FETCH_RETRIES", 0)
    yield WatchCheckout(tmp_path / "checkout", mirror, key, capsys, monkeypatch, tmp_path)
    mirror.close()


@pytest.fixture
def locked(watched: Path, debian: debrepo.Mirror, tmp_path: Path) -> Path:
    """A checkout of the test's own with the lock of the CPU image and the store that were made once
    for all."""
    shutil.copytree(watched / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("apt"))
    return Path(shutil.copytree(watched / "checkout", tmp_path / "checkout"))


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """A Slack-compatible receiver on loopback; gives the texts that came."""
    texts: list[str] = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            accepted = (
                self.path == "/services/secret"
                and self.headers["Content-Type"] == "application/json"
            )
            texts.extend([body["text"]] if accepted else [])
            self.answer(200 if accepted else 403)

    with Loopback(Handler) as server:
        monkeypatch.setenv("GOLDEN_WEBHOOK", f"{server.url}/services/secret")
        yield lambda: texts
