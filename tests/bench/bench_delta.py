"""Blocks of 512 KiB that a rebuild changes: the same lock again, and a driver release. `make bench-delta IMAGE=...`.

The floor is what must change: the content of files that no block of the old disk holds, in whole blocks. Prints a table
and writes build/bench/delta-<image>.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import driver_release
from goldenami.core.cache_paths import CachePaths
from goldenami.core.records import canonical, write_text
from goldenami.model.builds import lockfile
from goldenami.packages import store
from support.builds import checkout

ROOT = Path(__file__).resolve().parents[2]
BLOCK_BYTES = 512 * 1024
"""EBS direct APIs: BlockSize 524288 bytes."""
AIM, STRETCH = 1.35, 1.10


def bake(root: Path, image: str) -> Path:
    """Bake the lock of the checkout `root`; returns the build's folder."""
    subprocess.run([str(root / "scripts/golden"), "bake", image, "--no-verify", "--force"], check=True)
    _, digest = lockfile.read(lockfile.path_of(root, image))
    return root / "build" / image / digest[:lockfile.ID_LENGTH]


def blocks(disk: Path) -> list[bytes]:
    """A digest of each block."""
    with disk.open("rb") as source:
        return [hashlib.sha256(piece).digest() for piece in iter(lambda: source.read(BLOCK_BYTES), b"")]


def changed(old: list[bytes], new: list[bytes]) -> int:
    """How many blocks differ."""
    return sum(one != other for one, other in zip(old, new, strict=True))


def contents(build: Path) -> dict[str, int]:
    """The files of a build: SHA-256 to bytes."""
    entries = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["entries"]
    return {entry["sha256"]: entry["size"] for entry in entries if entry["type"] == "file"}


def floor(old: Path, new: Path) -> int:
    """Blocks that the new content needs if nothing else shares them."""
    before = contents(old)
    return -(-sum(size for digest, size in contents(new).items() if digest not in before) // BLOCK_BYTES)


def main() -> None:
    """Measure one image that has a driver."""
    image = sys.argv[1]
    kept = store.Store(CachePaths.default().root)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as temporary:
        root = checkout.copy(Path(temporary) / "checkout")
        lock, _ = lockfile.read(lockfile.path_of(root, image))
        if lock.driver is None:
            sys.exit(f"{image} has no driver; try IMAGE=debian-13-ml")
        first = bake(root, image)
        before = blocks(first / "disk.raw")
        again = changed(before, blocks(bake(root, image) / "disk.raw"))
        following = driver_release.following(lock, kept)
        lockfile.write(lockfile.path_of(root, image), following)
        second = bake(root, image)
        released, least = changed(before, blocks(second / "disk.raw")), floor(first, second)
        used = sum(digest != hashlib.sha256(bytes(BLOCK_BYTES)).digest() for digest in before)
        for name in driver_release.names(following):
            kept.path(following.packages[name].sha256).unlink(missing_ok=True)
    print(f"blocks of 512 KiB in use             {used:6}")
    print(f"changed by an identical rebuild      {again:6}")
    print(f"changed by a driver release          {released:6}")
    print(f"floor (bytes that truly changed)     {least:6}")
    print(f"release / floor                      {released / least:6.2f}   (aim {AIM}, stretch {STRETCH})")
    write_text(ROOT / "build/bench" / f"delta-{image}.json", canonical({
        "image": image, "used": used, "identical": again, "release": released, "floor": least,
        "ratio": round(released / least, 3), "load_1m": os.getloadavg()[0],
    }))


if __name__ == "__main__":
    main()
