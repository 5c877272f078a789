"""Filling a package store from a mirror on loopback, also by processes that a test ends."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from goldenami.core.records import sha256_file
from goldenami.packages.download import StoreRequest
from goldenami.packages.store import Store

from support.debian import debrepo
from support.debian.debrepo import Fault

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
FILL = """
import sys
from pathlib import Path
from goldenami.core.errors import GoldenError
from goldenami.packages.download import StoreRequest
from goldenami.packages.store import Store
rows = [line.split() for line in sys.stdin]
asked = [StoreRequest(digest, int(size), url, url) for digest, size, url in rows]
try:
    Store(Path(sys.argv[1])).fetch(asked)
except GoldenError as error:
    sys.exit(f"{type(error).__name__}: {error.message} / {error.hint}")
"""


def wanted(served: debrepo.Mirror, *names: str) -> list[StoreRequest]:
    """Requests for the named files of the mirror, or for all of them."""
    paths = [served.folder / name for name in names] or sorted(served.folder.iterdir())
    return [
        StoreRequest(sha256_file(path), path.stat().st_size, f"{served.uri}/{path.name}", path.name)
        for path in paths
    ]


def objects(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]


def fill_process(root: Path, items: list[StoreRequest]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, str(root)],
        text=True,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )
    assert process.stdin is not None
    process.stdin.write("".join(f"{item.sha256} {item.size} {item.url}\n" for item in items))
    process.stdin.close()
    process.stdin = None
    return process


def assert_whole(root: Path, items: list[StoreRequest]) -> None:
    found = objects(root)
    assert sorted(path.name for path in found) == sorted(item.sha256 for item in items)
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in found)


def kept_part(root: Path) -> int:
    """Bytes of the one part in the store."""
    return sum(path.stat().st_size for path in root.rglob("*.part"))


def kill_halfway(root: Path, served: debrepo.Mirror) -> StoreRequest:
    """A process that is killed when half of the large file has arrived."""
    served.faults = {"/large": Fault.STALLED}
    items = wanted(served, "large")
    process = fill_process(root, items)
    while kept_part(root) < items[0].size // 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    served.faults = {}
    assert Store(root).objects() == []
    assert Store(root).missing(items) == items
    return items[0]
