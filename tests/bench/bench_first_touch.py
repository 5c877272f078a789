"""A first `import` on a volume that is still being loaded, with and without reading ahead. `make bench-first-touch`.

The volume is the disk of a verified build: a block of 512 KiB waits DELAY_MS when it is first read, and never again
(support/builds/lazy_volume.py). Its root is mounted here, so programs run at this
machine's speed, not an emulator's; each run has a volume and a page cache of its own. Read before is Python itself,
which every boot has started for cloud-init. Compared, RUNS times in turn, are
the seconds of the import

    loaded                 on a volume without delay: what a hydrated one takes
    nothing read ahead     on a fresh one
    list, at once          reading ahead begins with the import: who logs in and imports within the same second
    list, before           reading ahead has ended: who needs longer than that
    everything, at once    all of the disk's data is read beside the import, as with `dd` or `fio`

Prints a table and writes build/bench/first-touch-<image>.json. Needs root, /dev/fuse, loop devices
and a verified build of an image with the role first_touch.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.wait import wait_until
from goldenami.local import container
from goldenami.local.disk import disk
from goldenami.local.sandbox import namespaces
from goldenami.local.tree import rootfs
from goldenami.model.builds.build_folder import ImageFolder
from support.builds import lazy_volume

ROOT = Path(__file__).resolve().parents[2]
RUNS = int(os.environ.get("RUNS", "3"))
DELAY_MS = int(os.environ.get("DELAY_MS", "15"))
DEPTH = 64
AIM = 1.15
PROGRAM, LIST = "usr/local/libexec/golden-first-touch", "usr/local/share/golden-first-touch.tsv"
WAYS = ("loaded", "nothing read ahead", "list, at once", "list, before", "everything, at once")


@contextlib.contextmanager
def volume(image: Path, folder: Path, delay_ms: int) -> Iterator[Path]:
    """The disk as a file that answers as a volume does."""
    folder.mkdir()
    place = folder / "volume"
    place.touch()
    server = shell.start([sys.executable, lazy_volume.__file__, str(image), str(place), str(delay_ms)],
                         log=folder / "volume.log", env=shell.python_env())
    try:
        wait_until(lambda: place.stat().st_size > 0 or None, 30, 0.05)
        yield place
    finally:
        shell.output(["umount", "--lazy", str(place)], check=False)
        shell.stop(server)


@contextlib.contextmanager
def root_of(place: Path, folder: Path) -> Iterator[Path]:
    """The root of the volume's disk, with an overlay for what programs write."""
    below = folder / "below"
    below.mkdir()
    loop = shell.output(["losetup", "--find", "--show", "--read-only", "--direct-io=on", f"--offset={disk.ROOT_OFFSET}",
                         str(place)]).strip()
    try:
        shell.output(["mount", "-t", "ext4", "-o", "ro,noload", loop, str(below)])
        with container.overlay([below], folder) as root:
            shell.output(["mount", "-t", "proc", "proc", str(root / "proc")])
            rootfs.devices(root)
            yield root
            shell.output(["umount", "--lazy", str(root / "dev"), str(root / "proc")])
        shell.output(["umount", str(below)])
    finally:
        shell.output(["losetup", "--detach", loop], check=False)


def everything(root: Path) -> str:
    """A list of all files of the root."""
    return shell.output(["find", str(root), "-xdev", "-type", "f", "-size", "+0", "-printf", "/%P\t0+%s\n"])


def measure(way: str, image: Path, folder: Path, command: list[str]) -> dict[str, float]:
    """Seconds of the import, and of reading ahead, on a volume of its own."""
    took: dict[str, float] = {}
    with volume(image, folder, 0 if way == "loaded" else DELAY_MS) as place, root_of(place, folder) as root:
        subprocess.run(["chroot", str(root), f"/{PROGRAM}", "--help"], check=True, stdout=subprocess.DEVNULL)
        ahead, began = None, time.monotonic()
        if way not in ("loaded", "nothing read ahead"):
            listed = f"/{LIST}"
            if way.startswith("everything"):
                (root / "run/everything.tsv").write_text(everything(root), encoding="utf-8")
                listed = "/run/everything.tsv"
            began = time.monotonic()
            ahead = shell.start(["chroot", str(root), f"/{PROGRAM}", listed, "--depth", str(DEPTH)],
                                log=folder / "ahead.log")
            if way.endswith("before"):
                ahead.wait()
                took["ahead"] = time.monotonic() - began
        begin = time.monotonic()
        subprocess.run(["chroot", str(root), *command], check=True, stdout=subprocess.DEVNULL)
        took["import"] = time.monotonic() - begin
        if ahead is not None:
            ahead.wait()
            took.setdefault("ahead", time.monotonic() - began)
            if ahead.returncode or not (folder / "ahead.log").read_text(encoding="utf-8").startswith("read "):
                sys.exit(f"{way}: {(folder / 'ahead.log').read_text(encoding='utf-8')}")
    return took


def inside(image: Path, folder: Path, environment: str, module: str) -> None:
    """All ways, in turn; the figures go to `found.json`."""
    namespaces.prepare()
    command = ["/opt/ml/bin/ml-run", environment, "python", "-I", "-B", "-c", f"import {module}"]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(RUNS):
        for way in WAYS:
            found[way].append(measure(way, image, folder / f"{WAYS.index(way)}-{number}", command))
            said = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found[way][-1].items())
            print(f"{way:22} {said}", flush=True)
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    """Measure one image."""
    image = sys.argv[1]
    build = ImageFolder.of(ROOT, image).latest
    if build is None:
        sys.exit(f"{image} has no verified build: make bake IMAGE={image}")
    frameworks = json.loads(build.variables.read_text(encoding="utf-8")).get("frameworks_installed", [])
    if not frameworks:
        sys.exit(f"{image} has no frameworks")
    chosen = next((one for one in frameworks if one["module"] == "torch"), frameworks[0])
    with tempfile.TemporaryDirectory(dir=build.image.path) as temporary:
        folder = Path(temporary)
        argv = [sys.executable, __file__, "--inside", str(build.disk), str(folder), chosen["environment"],
                chosen["module"]]
        subprocess.run(namespaces.unshare_argv(argv), env=shell.environment(shell.python_env()), check=True)
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    medians = {way: round(statistics.median(run["import"] for run in runs), 2) for way, runs in found.items()}
    print(f"import {chosen['module']}, {DELAY_MS} ms a block, median of {RUNS}:")
    for way, seconds in medians.items():
        ratio = seconds / medians["loaded"]
        aim = f"  (aim {AIM}: {'met' if ratio <= AIM else 'missed'})" if way.startswith("list") else ""
        print(f"{way:22} {seconds:6.2f} s  {ratio:5.2f} x{aim}")
    records.write_text(ROOT / "build/bench" / f"first-touch-{image}.json", records.canonical({
        "image": image, "delay_ms": DELAY_MS, "medians": medians, "runs": found, "load_1m": os.getloadavg()[0]}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:6])
    else:
        main()
