"""What every measurement shares: its image and build, a checkout of its own, clocks, aims, the file
of figures.

A busy machine measures its load. Compare figures of one run only.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from goldenami.core.records import canonical, write_text
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.locked import lockfile
from support.builds import checkout

ROOT = Path(__file__).resolve().parents[2]
RUNS = int(os.environ.get("RUNS", "3"))
T = TypeVar("T")


def image() -> str:
    """The image on the command line; `make` gives a default."""
    return sys.argv[1]


def verified_build() -> BuildFolder:
    """The image's newest verified build."""
    build = ImageFolder.of(ROOT, image()).latest
    if build is None:
        sys.exit(f"{image()} has no verified build here: run `make bake IMAGE={image()}`")
    return build


def timed(measured: Callable[[], object]) -> float:
    """Seconds that a function takes."""
    began = time.monotonic()
    measured()
    return round(time.monotonic() - began, 2)


def in_turn(ways: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """RUNS results of each way. The ways alternate, so that other load slows all of them."""
    results: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(RUNS):
        for name, measure in ways.items():
            print(f"{name}: run {number + 1} of {RUNS} ...", flush=True)
            results[name].append(measure())
    return results


def show(name: str, value: float, unit: str = "s", aim: float | None = None) -> None:
    """Print a figure, and whether it is at most its aim."""
    verdict = "met" if aim is None or value <= aim else "missed"
    ending = "" if aim is None else f"  (aim {aim:g}: {verdict})"
    print(f"{name:36} {value:9.2f} {unit}{ending}", flush=True)


def keep(name: str, figures: Mapping[str, Any]) -> None:
    """Write build/bench/NAME.json: figures, the time, the machine's load."""
    target = ROOT / "build/bench" / f"{name}.json"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = {"at": now, "cpus": os.cpu_count(), "load_1m": os.getloadavg()[0]}
    write_text(target, canonical(machine | dict(figures)))
    print(f"written to {target.relative_to(ROOT)}")


class Checkout:
    """A copy of the checkout, and a cache that has packages but no layers."""

    def __init__(self, folder: Path, built: Sequence[str]) -> None:
        self.root = checkout.copy(folder / "checkout")
        self.cache = checkout.cache(folder / "cache", built=built)

    def golden(self, *args: str) -> float:
        """Seconds of one command."""
        argv = [str(self.root / "scripts/golden"), *args]
        env = {**os.environ, "GOLDEN_CACHE": str(self.cache)}
        return timed(lambda: subprocess.run(argv, check=True, env=env))

    def lock(self) -> tuple[lockfile.Lock, str]:
        """The image's lock and its SHA-256."""
        return lockfile.read(lockfile.path_of(self.root, image()))


@contextmanager
def emulator() -> Iterator[str]:
    """The emulator of EC2 as a process; its address."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    argv = [sys.executable, "-m", "ec2_emulator", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().partition("=")[2]
        process.terminate()
