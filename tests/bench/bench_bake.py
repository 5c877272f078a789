"""Seconds of a cold bake by phase, and of rebakes as shares of it. `make bench-bake IMAGE=...`.

Cold: packages in the store, nothing else kept. Rebakes: nothing changed; a tuning role changed; a driver release (only
where the image has a driver). Prints a table and writes build/bench/bake-<image>.json. The aims in seconds are those of
two idle cores; a busy machine measures its load, so compare figures of one run only.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import driver_release
from goldenami.core.cache_paths import CachePaths
from goldenami.core.records import canonical, read, write_text
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_records import BakeRecord, VerifyRecord
from goldenami.packages import store
from support.builds import checkout

ROOT = Path(__file__).resolve().parents[2]
AIMS_S = {"base + container": 60, "roles but CUDA": 90, "disk": 60, "SSH": 60, "frameworks": 30}
"""`frameworks` is of an image that has any: installing all of them from wheels that another image's lock compiled."""
SHARES = {"nothing changed": 0.05, "tuning role": 0.15, "driver release": 0.25}
"""Aims of rebakes, as shares of the cold bake's wall time."""


class Bench:
    """A copy of the checkout with a cache that has no layers yet."""

    def __init__(self, folder: Path, image: str) -> None:
        self.root, self.image = checkout.copy(folder / "checkout"), image
        self.cache = checkout.cache(folder / "cache")

    def run(self, stage: str, *options: str) -> float:
        """Seconds of one command."""
        began = time.monotonic()
        subprocess.run([str(self.root / "scripts/golden"), stage, self.image, *options], check=True,
                       env={**os.environ, "GOLDEN_CACHE": str(self.cache)})
        return time.monotonic() - began

    def bake(self) -> float:
        """Seconds to the finished disk."""
        return self.run("bake", "--no-verify")

    @property
    def lock(self) -> Path:
        """The lock of the copy."""
        return lockfile.path_of(self.root, self.image)

    @property
    def build(self) -> Path:
        """The folder of the lock's build."""
        return self.root / "build" / self.image / lockfile.read(self.lock)[1][:lockfile.ID_LENGTH]


def figures(folder: Path) -> dict[str, float]:
    """Seconds by phase, role and boot."""
    baked, verified = read(folder / "bake.json", BakeRecord), read(folder / "verify.json", VerifyRecord)
    found = {f"phase {timing.name}": timing.seconds for timing in baked.phases}
    found |= {f"role {timing.name}": timing.seconds for timing in baked.roles}
    found |= {f"SSH ({boot.firmware}, {verified.accel.value})": boot.seconds_to_ssh for boot in verified.boots}
    return found | {"checks": round(sum(check.seconds for check in verified.checks), 1), "verify": verified.seconds}


def against_aims(found: dict[str, float]) -> dict[str, tuple[float, int]]:
    """What was aimed at: measured seconds and the aim. A step's phase holds its container and its roles."""
    roles = {name: seconds for name, seconds in found.items() if name.startswith("role ")}
    not_steps = ("base", "repository", "seal check", "coverage", "disk")
    steps = sum(seconds for name, seconds in found.items()
                if name.startswith("phase ") and name.removeprefix("phase ") not in not_steps)
    measured = {
        "base + container": found.get("phase base", 0) + steps - sum(roles.values()),
        "roles but CUDA": sum(roles.values()) - roles.get("role cuda", 0),
        "disk": found.get("phase disk", 0),
        "SSH": max(seconds for name, seconds in found.items() if name.startswith("SSH")),
        **({"frameworks": roles["role frameworks"]} if "role frameworks" in roles else {}),
    }
    return {name: (round(measured[name], 1), aim) for name, aim in AIMS_S.items() if name in measured}


def rebakes(bench: Bench) -> dict[str, float]:
    """Seconds of each rebake; the locks are made beforehand."""
    found = {"nothing changed": bench.bake()}
    before = bench.lock.read_bytes()
    defaults = bench.root / "roles/limits/defaults/main.yml"
    text = defaults.read_text(encoding="utf-8")
    defaults.write_text(text.replace("1048576", "1048575"), encoding="utf-8")
    bench.run("lock")
    found["tuning role"] = bench.bake()
    defaults.write_text(text, encoding="utf-8")
    bench.lock.write_bytes(before)
    lock = lockfile.read_copy(bench.lock)[0]
    if lock.driver is not None:
        lockfile.write(bench.lock, driver_release.following(lock, store.Store(CachePaths.default().root)))
        found["driver release"] = bench.bake()
    return found


def main() -> None:
    """Measure one image."""
    image = sys.argv[1]
    with tempfile.TemporaryDirectory(dir=CachePaths.default().root) as folder:
        bench = Bench(Path(folder), image)
        bench.run("lock")
        cold = bench.bake()
        bench.run("verify")
        found = figures(bench.build)
        again = rebakes(bench)
    aims = against_aims(found)
    for name, seconds in found.items():
        print(f"{name:32} {seconds:8.1f} s")
    for name, (seconds, aim) in aims.items():
        print(f"{name:32} {seconds:8.1f} s  (aim {aim} s: {'met' if seconds <= aim else 'missed'})")
    print(f"{'cold bake':32} {cold:8.1f} s")
    for name, seconds in again.items():
        share = seconds / cold
        print(f"{name:32} {seconds:8.1f} s  {share:4.0%} of cold (aim {SHARES[name]:.0%}: "
              f"{'met' if share <= SHARES[name] else 'missed'})")
    target = ROOT / "build/bench" / f"bake-{image}.json"
    write_text(target, canonical({
        "image": image, "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(), "load_1m": os.getloadavg()[0], "seconds": found, "aims": aims, "cold": cold,
        "rebakes": again,
    }))
    print(f"written to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
