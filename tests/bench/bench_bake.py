"""Seconds a phase of a cold bake: packages in the store, nothing else kept. `make bench-bake IMAGE=...`.

Prints a table and writes build/bench/bake-<image>.json. The aims are those of two idle cores; a busy machine
measures its load, so compare figures of one run only.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from goldenami import store
from goldenami.build_records import BakeRecord, VerifyRecord
from goldenami.records import canonical, read, write_text

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("store", "control", "modules", "apt")
"""Parts of the cache that a cold bake may use: what was downloaded or compiled, no tree and no repository."""
AIMS_S = {"base + container": 60, "roles but CUDA": 90, "disk": 60, "SSH": 60}


def bake(image: str) -> Path:
    """Bake and verify `image` with a cache that has no layers; returns the build's folder."""
    real = store.default_root()
    with tempfile.TemporaryDirectory(dir=real) as folder:
        cache = Path(folder)
        for name in KEPT:
            (real / name).mkdir(exist_ok=True)
            (cache / name).symlink_to(real / name)
        subprocess.run([str(ROOT / "scripts/golden"), "bake", image, "--force"], check=True,
                       env={**os.environ, "GOLDEN_CACHE": str(cache)})
    return (ROOT / "build" / image / "latest").resolve()


def figures(folder: Path) -> dict[str, float]:
    """Seconds by phase, role and boot."""
    baked, verified = read(folder / "bake.json", BakeRecord), read(folder / "verify.json", VerifyRecord)
    found = {f"phase {timing.name}": timing.seconds for timing in baked.phases}
    found |= {f"role {timing.name}": timing.seconds for timing in baked.roles}
    found |= {f"SSH ({boot.firmware}, {verified.accel.value})": boot.seconds_to_ssh for boot in verified.boots}
    return found | {"checks": round(sum(check.seconds for check in verified.checks), 1), "verify": verified.seconds}


def against_aims(found: dict[str, float]) -> dict[str, tuple[float, int]]:
    """What was aimed at: measured seconds and the aim."""
    measured = {
        "base + container": found.get("phase base", 0) + found.get("phase container", 0),
        "roles but CUDA": found.get("phase roles", 0) - found.get("role cuda", 0),
        "disk": found.get("phase disk", 0) + found.get("phase checksum", 0),
        "SSH": max(seconds for name, seconds in found.items() if name.startswith("SSH")),
    }
    return {name: (round(measured[name], 1), aim) for name, aim in AIMS_S.items()}


def main() -> None:
    """Measure one image."""
    image = sys.argv[1]
    found = figures(bake(image))
    aims = against_aims(found)
    for name, seconds in found.items():
        print(f"{name:32} {seconds:8.1f} s")
    for name, (seconds, aim) in aims.items():
        print(f"{name:32} {seconds:8.1f} s  (aim {aim} s: {'met' if seconds <= aim else 'missed'})")
    target = ROOT / "build/bench" / f"bake-{image}.json"
    write_text(target, canonical({
        "image": image, "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(), "load_1m": os.getloadavg()[0], "seconds": found, "aims": aims,
    }))
    print(f"written to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
