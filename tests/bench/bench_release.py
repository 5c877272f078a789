"""From "a new driver is in the archive" to "verified disk and report". `make bench-release`.

The image is locked with the driver before the newest one of its branch, and baked, unmeasured.
Measured are `golden watch --update` and `golden bake`, with compilation, boots and checks. Last,
the same lock is baked with no layer to start from. The archive has to have two drivers of the
branch.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bench import harness
from bench.harness import Checkout
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import NoFit
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import resolve
from goldenami.image.lock.compilation import driver_fit
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.image.lock.opening import LockInputs, opened
from goldenami.model.definitions import definition_file, driver_requests
from goldenami.model.definitions.definition import Definition
from goldenami.packages.store import Store

AIM_SHARE, AIM_S = 0.45, 200
"""Of a full bake; and seconds, on two idle cores."""
HOLD_KERNEL = """
watch:
  kernel: {policy: hold, review: 2999-12-31, reason: only the driver is measured}
"""


def prepared(folder: Path, image: str) -> tuple[Checkout, Definition]:
    """A checkout whose image keeps its kernel, and that definition."""
    copy = Checkout(folder, built=("wheels",))  # the driver is compiled, as on its day
    path = definition_file.path_of(copy.root, image)
    text = path.read_text(encoding="utf-8").partition("\nwatch:")[0].rstrip()
    path.write_text(text + HOLD_KERNEL, encoding="utf-8")
    return copy, definition_file.load(copy.root, path)


def lock_older(copy: Checkout, definition: Definition, log: Path) -> str:
    """Lock the driver before the newest; returns the newest. NoFit where the archive has only one
    driver."""
    log.write_text("", encoding="utf-8")
    store = Store(copy.cache)
    progress = Progress.of("lock", definition.image, store.cache)
    requests = driver_requests.requests(
        copy.root, definition, definition.variables("nvidia_driver")
    )
    inputs = LockInputs(copy.root, definition, store, progress, log)
    with opened(inputs) as resolution:
        candidates = driver_fit.candidates(resolution.apt, requests)
    newest, *others = dict.fromkeys(candidate.version for candidate in candidates)
    if not others:
        raise NoFit(
            f"the archive has one driver of this branch only, {newest}",
            hint="there is nothing to measure until the next release",
        )
    resolve.run(replace(inputs, constraints=LockConstraints(driver=others[0])))
    return newest


def driver(copy: Checkout) -> str:
    """The locked version."""
    locked = copy.lock()[0].driver
    assert locked is not None
    return locked.version


def measure(folder: Path, image: str) -> tuple[dict[str, float], str]:
    """Seconds of each part, and what `watch` says of the driver."""
    copy, definition = prepared(folder, image)
    version = lock_older(copy, definition, folder / "log")
    copy.golden("bake", image)
    assert driver(copy) != version
    seconds = {"watch, compile, lock": copy.golden("watch", image, "--update")}
    assert driver(copy) == version, f"{version} was not taken: see build/watch/summary.md"
    seconds["bake, verify, report"] = copy.golden("bake", image)
    for name in ("layers", "repos"):
        shutil.rmtree(copy.cache / name, ignore_errors=True)
    shutil.rmtree(copy.root / "build" / image)
    seconds["full bake, verify, report"] = copy.golden("bake", image)
    changes = json.loads((copy.root / "build/watch/watch.json").read_text(encoding="utf-8"))
    return seconds, changes["changes"][0]["driver"]


def main() -> None:
    """Measure one image."""
    image = harness.image()
    with tempfile.TemporaryDirectory(dir=CachePaths.default().folder) as folder:
        seconds, change = measure(Path(folder), image)
    release = seconds["watch, compile, lock"] + seconds["bake, verify, report"]
    share = release / seconds["full bake, verify, report"]
    for name, value in seconds.items():
        harness.show(name, value)
    harness.show("release to report", release, aim=AIM_S)
    harness.show("share of a full bake", share, unit="", aim=AIM_SHARE)
    harness.keep(
        f"release-{image}",
        {"image": image, "seconds": seconds, "release": release, "share": share, "driver": change},
    )


if __name__ == "__main__":
    main()
