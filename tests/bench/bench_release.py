"""From "a new driver is in the repository" to "verified disk and report", against a full bake. `make bench-release`.

Yesterday's archive is this machine's without the newest driver of the image's branch; the image is locked and baked
from it, unmeasured. Then the real archive takes its place, and `golden watch --update` and `golden bake` are measured,
driver compilation, boots and checks included; last, the same lock is baked with no layer to start from. Prints a table
and writes build/bench/release-IMAGE.json. The archive has to have two drivers of the branch.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import NoFit
from goldenami.core.records import canonical, write_text
from goldenami.image.lock.compilation import driver_fit
from goldenami.model.builds import lockfile
from goldenami.model.definitions import definition_file
from goldenami.model.supported import driver_requests
from goldenami.watch.sources import archive_indexes
from support.builds import checkout
from support.debian import older_archives

ROOT = Path(__file__).resolve().parents[2]
AIM_SHARE, AIM_S = 0.45, 200
"""Of a full bake; and seconds, on two idle cores."""
HELD_KERNEL = "\nwatch:\n  kernel: {policy: hold, review: 2999-12-31, reason: only the driver is measured}\n"


class Bench:
    """A copy of the checkout and a cache of its own, on one of two days."""

    def __init__(self, folder: Path, image: str) -> None:
        self.root, self.image = checkout.copy(folder / "checkout"), image
        self.cache = checkout.cache(folder / "cache", built=("wheels",))  # the driver is compiled, as on its day
        path = definition_file.path_of(self.root, image)
        path.write_text(path.read_text(encoding="utf-8").partition("\nwatch:")[0].rstrip() + HELD_KERNEL,
                        encoding="utf-8")
        self.definition = definition_file.load(self.root, path)
        self.env: dict[str, str] = {}

    def run(self, *args: str) -> float:
        """Seconds of one command."""
        began = time.monotonic()
        subprocess.run([str(self.root / "scripts/golden"), *args], check=True,
                       env={**os.environ, "GOLDEN_CACHE": str(self.cache), **self.env})
        return round(time.monotonic() - began, 1)

    def cold(self) -> None:
        """Forget what bakes have left: layers, base trees, repositories, the build itself."""
        for name in ("layers", "repos"):
            shutil.rmtree(self.cache / name, ignore_errors=True)
        shutil.rmtree(self.root / "build" / self.image)

    def driver(self) -> str:
        """The locked version."""
        found = lockfile.read(lockfile.path_of(self.root, self.image))[0].driver
        assert found is not None
        return found.version


def two_versions(bench: Bench, seen: archive_indexes.Archives) -> tuple[str, list[str]]:
    """The newest driver, and the source packages it comes from; NoFit where the archive has only one."""
    given = bench.definition.variables("nvidia_driver")
    found = driver_fit.candidates(seen.apt, driver_requests.requests(bench.root, bench.definition, given))
    if len({candidate.version for candidate in found}) < 2:
        raise NoFit(f"the archive has one driver of this branch only, {found[0].version}",
                    hint="there is nothing to measure until the next release")
    return found[0].version, found[0].request.pinned_sources


def measure(bench: Bench, folder: Path) -> dict[str, float]:
    """Seconds of each part. Yesterday's preparation is among them, but in neither sum."""
    seen = archive_indexes.look(bench.definition.base, CachePaths(folder / "indexes"))
    newest, sources = two_versions(bench, seen)
    older_archives.forget_today(bench.root, bench.image)
    with older_archives.environment(seen, folder, older_archives.of_driver(newest, sources)) as bench.env:
        found = {"yesterday's lock": bench.run("lock", bench.image), "yesterday's bake": bench.run("bake", bench.image)}
        assert bench.driver() != newest
    bench.env = {}
    found["watch, compile, lock"] = bench.run("watch", bench.image, "--update")
    assert bench.driver() == newest, f"{newest} was not taken: see build/watch/summary.md of the copy"
    found["bake, verify, report"] = bench.run("bake", bench.image)
    bench.cold()
    found["full bake, verify, report"] = bench.run("bake", bench.image)
    return found


def main() -> None:
    """Measure one image."""
    image = sys.argv[1]
    with tempfile.TemporaryDirectory(dir=CachePaths.default().root) as name:
        bench = Bench(Path(name), image)
        found = measure(bench, Path(name))
        changes = json.loads((bench.root / "build/watch/watch.json").read_text(encoding="utf-8"))["changes"]
    release = found["watch, compile, lock"] + found["bake, verify, report"]
    share = release / found["full bake, verify, report"]
    for step, seconds in found.items():
        print(f"{step:28} {seconds:8.1f} s")
    print(f"{'release to report':28} {release:8.1f} s  {share:4.0%} of a full bake (aims {AIM_SHARE:.0%}: "
          f"{'met' if share <= AIM_SHARE else 'missed'}, {AIM_S} s: {'met' if release <= AIM_S else 'missed'})")
    target = ROOT / "build/bench" / f"release-{image}.json"
    write_text(target, canonical({
        "image": image, "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(), "load_1m": os.getloadavg()[0], "seconds": found, "release": release, "share": share,
        "driver": changes[0]["driver"],
    }))
    print(f"written to {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
