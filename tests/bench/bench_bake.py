"""Seconds of a cold bake by phase, and of rebakes as shares of it. `make bench-bake IMAGE=...`.

Cold: packages are in the store, nothing else is kept. Rebakes: nothing changed; a tuning role
changed. A driver release is `bench-release`'s. The aims are those of two idle cores.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import harness
from bench.harness import Checkout
from goldenami.core.cache_paths import CachePaths
from goldenami.core.records import read
from goldenami.model.builds.build_records import BakeRecord, VerifyRecord
from goldenami.model.locked import lockfile

AIMS_S = {
    "base + container": 60,
    "roles but CUDA": 90,
    "disk": 60,
    "SSH": 60,
    "frameworks": 30,  # all of them, from wheels that another image's lock compiled
}
SHARES = {"nothing changed": 0.05, "tuning role": 0.15}
NOT_STEPS = ("base", "modules and wheels", "repository", "seal check", "coverage", "disk")
"""Phases of a bake that run no roles."""


def figures(folder: Path) -> dict[str, float]:
    """Seconds by phase, role and boot."""
    baked = read(folder / "bake.json", BakeRecord)
    verified = read(folder / "verify.json", VerifyRecord)
    seconds = {f"phase {timing.name}": timing.seconds for timing in baked.phases}
    seconds |= {f"role {timing.name}": timing.seconds for timing in baked.roles}
    seconds |= {f"SSH {boot.firmware}": boot.seconds_to_ssh for boot in verified.boots}
    seconds["checks"] = round(sum(check.seconds for check in verified.checks), 1)
    return seconds | {"verify": verified.seconds}


def against_aims(seconds: dict[str, float]) -> dict[str, float]:
    """Sums that have an aim. A step's phase has its container and its roles."""
    phases = {name[6:]: value for name, value in seconds.items() if name.startswith("phase ")}
    roles = {name[5:]: value for name, value in seconds.items() if name.startswith("role ")}
    steps = sum(value for name, value in phases.items() if name not in NOT_STEPS)
    sums = {
        "base + container": phases.get("base", 0) + steps - sum(roles.values()),
        "roles but CUDA": sum(roles.values()) - roles.get("cuda", 0),
        "disk": phases.get("disk", 0),
        "SSH": max(value for name, value in seconds.items() if name.startswith("SSH ")),
    }
    return sums | {name: roles[name] for name in ("frameworks",) if name in roles}


def rebakes(copy: Checkout, image: str) -> dict[str, float]:
    """Seconds of each rebake; the locks are made beforehand."""
    seconds = {"nothing changed": copy.golden("bake", image, "--no-verify")}
    defaults = copy.root / "roles/limits/defaults/main.yml"
    text = defaults.read_text(encoding="utf-8")
    assert "1048576" in text
    defaults.write_text(text.replace("1048576", "1048575"), encoding="utf-8")
    copy.golden("lock", image)
    return seconds | {"tuning role": copy.golden("bake", image, "--no-verify")}


def main() -> None:
    """Measure one image."""
    image = harness.image()
    with tempfile.TemporaryDirectory(dir=CachePaths.default().folder) as folder:
        copy = Checkout(Path(folder), built=("modules", "apt"))
        copy.golden("lock", image)
        cold = copy.golden("bake", image, "--no-verify")
        copy.golden("verify", image)
        build = copy.root / "build" / image / copy.lock()[1][: lockfile.ID_LENGTH]
        seconds = figures(build)
        again = rebakes(copy, image)
    sums = against_aims(seconds)
    for name, value in seconds.items():
        harness.show(name, value)
    for name, value in sums.items():
        harness.show(name, value, aim=AIMS_S[name])
    harness.show("cold bake", cold)
    for name, value in again.items():
        harness.show(f"{name}, share of cold", value / cold, unit="", aim=SHARES[name])
    harness.keep(
        f"bake-{image}",
        {"image": image, "seconds": seconds, "sums": sums, "cold": cold, "rebakes": again},
    )


if __name__ == "__main__":
    main()
