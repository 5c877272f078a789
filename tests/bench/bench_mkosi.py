"""A cold bake against mkosi, which puts the same files on a disk: wall time and peak disk use. `make bench-mkosi`.

mkosi (Debian package `mkosi`) gets the locked packages from a mirror on loopback and a warm package cache; the bake
gets its store. Each works on a fresh ext4 of its own, whose fullest moment is the peak. mkosi's image has neither a
loader nor any configuration; the bake also runs all roles, seals, and makes the disk bootable. RUNS of each, in turn.

Prints a table and writes build/bench/mkosi-<image>.json. Needs root, loop devices and 12 GB.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.records import canonical, write_text
from goldenami.image.bake import bake_inputs
from goldenami.model.builds import lockfile
from goldenami.packages import store
from support.builds import checkout

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).parent / "mkosi"
RUNS = int(os.environ.get("RUNS", "3"))
SPACE = 16 << 30
"""Apparent bytes of the scratch file systems; they are sparse."""
SAMPLE_S = 0.1


def mirror(repo: Path, release: str, target: Path) -> None:
    """The flat repository `repo` in the layout of an archive: dists/<release>/main, pool/."""
    (target / "pool").mkdir(parents=True)
    for deb in repo.glob("*.deb"):
        os.link(deb, target / "pool" / deb.name)
    index = (repo / "Packages").read_text(encoding="utf-8").replace("Filename: ./", "Filename: pool/").encode()
    folder = target / "dists" / release
    lines = [f"Suite: {release}", f"Codename: {release}", "Components: main", "Architectures: amd64",
             "Date: Thu, 01 Jan 1970 00:00:00 UTC", "SHA256:"]
    for name, data in (("Packages", index), ("Packages.gz", gzip.compress(index))):
        path = folder / "main/binary-amd64" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/{name}")
    (folder / "Release").write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve `folder` on loopback."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A fresh ext4 in a sparse file below `folder`."""
    image, place = folder / "scratch.img", folder / "scratch"
    with image.open("wb") as sink:
        sink.truncate(SPACE)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image)], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop,noatime", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()
        image.unlink()


def measured(place: Path, run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of `run`, and the peak of what it occupies on the file system of `place`, in GB."""
    peak, done = 0, threading.Event()
    empty = _used(place)

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_S):
            peak = max(peak, _used(place) - empty)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        run()
        os.sync()
    finally:
        seconds = time.monotonic() - began
        done.set()
        watcher.join()
    return seconds, peak / 1e9


def _used(place: Path) -> int:
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def mkosi(image: str, place: Path, uri: str, cache: Path) -> Callable[[], object]:
    """What builds the disk with mkosi."""
    lock, _ = lockfile.read(lockfile.path_of(ROOT, image))
    work = place / "mkosi"
    shutil.copytree(CONFIG, work)
    for name in ("workspace", "output"):
        (place / name).mkdir()
    (work / "mkosi.conf.d").mkdir()
    (work / "mkosi.conf.d/packages.conf").write_text(
        "[Content]\nPackages=" + "\n         ".join(sorted(lock.packages)) + "\n", encoding="utf-8")
    argv = ["mkosi", "--force", f"--release={lock.base.release}", f"--local-mirror={uri}", f"--mirror={uri}",
            f"--package-cache-dir={cache}", f"--workspace-directory={place / 'workspace'}",
            f"--output-directory={place / 'output'}", "build"]
    return lambda: _logged(argv, work)


def bake(image: str, place: Path) -> Callable[[], object]:
    """What bakes the disk: a copy of the checkout and a cache without layers, both on `place`."""
    root, cache = checkout.copy(place / "checkout"), checkout.cache(place / "cache")
    argv = [str(root / "scripts/golden"), "bake", image, "--no-verify"]
    return lambda: _logged(argv, root, GOLDEN_CACHE=str(cache))


def _logged(argv: list[str], cwd: Path, **env: str) -> None:
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **env}, text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{argv[0]} failed with {done.returncode}:\n{done.stdout[-3000:]}")


def main() -> None:
    """Measure one image."""
    image = sys.argv[1]
    if shutil.which("mkosi") is None:
        sys.exit("mkosi is not installed: apt-get install mkosi")
    lock, _ = lockfile.read(lockfile.path_of(ROOT, image))
    kept = store.Store(CachePaths.default().root)
    found: dict[str, list[tuple[float, float]]] = {"mkosi": [], "bake": []}
    with tempfile.TemporaryDirectory(dir=kept.cache.root) as temporary:
        folder = Path(temporary)
        mirror(bake_inputs.repository(lock, kept), lock.base.release, folder / "mirror")
        with served(folder / "mirror") as uri:
            cache = folder / "package-cache"
            cache.mkdir()
            for number in range(RUNS + 1):
                with scratch(folder) as place:
                    figures = measured(place, mkosi(image, place, uri, cache))
                if number:  # the first one fills mkosi's package cache
                    found["mkosi"].append(figures)
                    with scratch(folder) as place:
                        found["bake"].append(measured(place, bake(image, place)))
    medians = {name: [round(statistics.median(column), 2) for column in zip(*runs, strict=True)]
               for name, runs in found.items()}
    for name, (seconds, peak) in medians.items():
        print(f"{name:6} {seconds:7.1f} s  peak {peak:5.2f} GB   (median of {RUNS})")
    ratios = [round(ours / theirs, 2) for ours, theirs in zip(medians["bake"], medians["mkosi"], strict=True)]
    print(f"bake / mkosi: {ratios[0]} of the time, {ratios[1]} of the disk")
    write_text(ROOT / "build/bench" / f"mkosi-{image}.json", canonical({
        "image": image, "runs": found, "medians": medians, "ratios": {"seconds": ratios[0], "peak": ratios[1]},
        "mkosi": subprocess.run(["mkosi", "--version"], capture_output=True, text=True, check=True).stdout.strip(),
        "load_1m": os.getloadavg()[0],
    }))


if __name__ == "__main__":
    main()
