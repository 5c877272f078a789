"""A first `import` on a volume that is still being loaded. `make bench-first-touch`.

The volume is the disk of a verified build: a block of 512 KiB waits DELAY_MS when it is first read
(support/builds/lazy_volume.py). Its root is mounted here, so programs run at this machine's speed.
Each run has a volume and a page cache of its own. Python itself is read before: every boot has
started it for cloud-init. The ways:

    loaded                 a volume without delay
    nothing read ahead     a fresh one
    list, at once          reading ahead begins with the import
    list, before           reading ahead has ended
    everything, at once    all of the disk's data is read beside the import, as with `dd` or `fio`

Needs root, /dev/fuse, loop devices and a verified build of an image with the role first_touch.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import harness
from goldenami.core import shell
from goldenami.core.wait import wait_until
from goldenami.local import container
from goldenami.local.disk import disk
from goldenami.local.sandbox import namespaces
from goldenami.local.tree import rootfs
from support.builds import lazy_volume

DELAY_MS = int(os.environ.get("DELAY_MS", "15"))
AIM = 1.15
PROGRAM, LIST = "/usr/local/libexec/golden-first-touch", "/usr/local/share/golden-first-touch.tsv"
WAYS = ("loaded", "nothing read ahead", "list, at once", "list, before", "everything, at once")


@contextlib.contextmanager
def volume(image: Path, folder: Path, delay_ms: int) -> Iterator[Path]:
    """The disk as a file that answers as a volume does."""
    place = folder / "volume"
    place.touch()
    argv = [sys.executable, lazy_volume.__file__, str(image), str(place), str(delay_ms)]
    server = shell.start(argv, log=folder / "volume.log", env=shell.python_env())
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
    loop = shell.output(["losetup", "--find", "--show", "--read-only", "--direct-io=on",
                         f"--offset={disk.ROOT_OFFSET}", str(place)]).strip()
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


def list_everything(root: Path) -> str:
    """Write a list of all files of the root; its path there."""
    listed = shell.output(["find", str(root), "-xdev", "-type", "f", "-size", "+0",
                           "-printf", "/%P\t0+%s\n"])
    (root / "run/everything.tsv").write_text(listed, encoding="utf-8")
    return "/run/everything.tsv"


def measure(way: str, image: Path, above: Path, command: list[str]) -> float:
    """Seconds of the import on a volume of its own."""
    folder = Path(tempfile.mkdtemp(dir=above))
    delay_ms = 0 if way == "loaded" else DELAY_MS
    with volume(image, folder, delay_ms) as place, root_of(place, folder) as root:
        run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
        run(["chroot", str(root), PROGRAM, "--help"])
        ahead, log = None, folder / "ahead.log"
        if way not in ("loaded", "nothing read ahead"):
            listed = list_everything(root) if way.startswith("everything") else LIST
            ahead = shell.start(["chroot", str(root), PROGRAM, listed, "--depth", "64"], log=log)
            if way.endswith("before"):
                ahead.wait()
        seconds = harness.timed(lambda: run(["chroot", str(root), *command]))
        if ahead is not None:
            failed, text = ahead.wait(), log.read_text(encoding="utf-8")
            if failed or not text.startswith("read "):
                sys.exit(f"{way}: {text}")
    return seconds


def inside(image: Path, folder: Path, environment: str, module: str) -> None:
    """All ways, in turn; the figures go to `seconds.json`."""
    namespaces.prepare()
    command = ["/opt/ml/bin/ml-run", environment, "python", "-I", "-B", "-c", f"import {module}"]
    ways = {way: functools.partial(measure, way, image, folder, command) for way in WAYS}
    (folder / "seconds.json").write_text(json.dumps(harness.in_turn(ways)), encoding="utf-8")


def main() -> None:
    """Measure one image."""
    image, build = harness.image(), harness.verified_build()
    variables = json.loads(build.variables.read_text(encoding="utf-8"))
    modules = {one["module"]: one["environment"]
               for one in variables.get("frameworks_installed", [])}
    if not modules:
        sys.exit(f"{image} has no frameworks")
    module = "torch" if "torch" in modules else min(modules)
    with tempfile.TemporaryDirectory(dir=build.image.path) as folder:
        argv = [sys.executable, __file__, "--inside", str(build.disk), folder, modules[module],
                module]
        env = shell.environment(shell.python_env())
        subprocess.run(namespaces.unshare_argv(argv), env=env, check=True)
        runs = json.loads(Path(folder, "seconds.json").read_text(encoding="utf-8"))
    medians = {way: statistics.median(seconds) for way, seconds in runs.items()}
    for way, seconds in medians.items():
        aim = AIM if way.startswith("list") else None
        harness.show(f"import {module}, {way}", seconds)
        harness.show("    against a loaded volume", seconds / medians["loaded"], unit="", aim=aim)
    harness.keep(f"first-touch-{image}", {"image": image, "delay_ms": DELAY_MS, "runs": runs})


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:6])
    else:
        main()
