"""What it costs to look for drift from outside, and what AIDE costs on the same tree. `make bench-drift IMAGE=...`.

Boots the newest verified disk, uses it for a while, and looks at what it wrote: processor seconds are the kernel's, of
all processes, without what EBS takes to transfer the blocks. AIDE reads the tree of the disk as it is mounted on this
machine, as in a guest it would on each check. Prints a table and writes build/bench/drift.json.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.core.records import canonical, write_text
from goldenami.fleet.drift.disk import disk_check
from goldenami.fleet.drift.disk.baked_disk import BakedDisk
from goldenami.fleet.drift.disk.disk_check import LookedAt
from goldenami.local.disk import disk
from goldenami.local.reader.block_source import overlay
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.disk_blocks import BlockMap
from support.builds import guest
from support.debian import unpacked

ROOT = Path(__file__).resolve().parents[2]
RUNS = 3
AIM_S, AIM_SHARE = 2.0, 0.03
"""Processor seconds, and the part of the disk's data that is read."""
RULES = """root_prefix={tree}
database_in=file:{folder}/aide.db
database_out=file:{folder}/aide.db
report_url=file:{folder}/aide.report
num_workers=1
/ p+u+g+s+l+ftype+acl+xattrs+sha256
"""


def processor_s(what: Callable[[], object]) -> float:
    """Seconds of processor that a function takes in a process of its own, and in what that starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not (child := os.fork()):
        what()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise SystemExit("it failed: see above")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def outside(build: BuildFolder, used: Path) -> LookedAt:
    """As `golden drift --instance` looks: only what was written comes from elsewhere."""
    base = BakedDisk(build.disk, BlockMap.open(build.blocks))
    found = overlay(used, base)
    return LookedAt(label="bench", user="debian", disk=found, base=base, changed=found.changed)


@contextlib.contextmanager
def mounted(build: BuildFolder, point: Path) -> Iterator[Path]:
    """The root of the disk, as the kernel shows it, read-only."""
    point.mkdir()
    how = f"loop,ro,noload,offset={disk.ROOT_OFFSET}"
    shell.output(["mount", "-t", "ext4", "-o", how, str(build.disk), str(point)])
    try:
        yield point
    finally:
        shell.output(["umount", str(point)])


def aide(build: BuildFolder, folder: Path) -> tuple[float, float]:
    """Seconds of processor of AIDE's first reading and of a check."""
    root = unpacked.unpack("aide", folder / "aide")
    libraries = {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu")}
    with mounted(build, folder / "tree") as tree:
        config = folder / "aide.conf"
        config.write_text(RULES.format(tree=tree, folder=folder), encoding="utf-8")
        argv = [str(root / "usr/bin/aide"), "--config", str(config)]
        return (processor_s(lambda: shell.output([*argv, "--init"], env=libraries)),
                processor_s(lambda: shell.output([*argv, "--check"], env=libraries)))


def main() -> None:
    """Measure, print, keep."""
    image = sys.argv[1]
    build = ImageFolder.of(ROOT, image).latest
    if build is None:
        raise SystemExit(f"{image} has no verified build here: run `make bake IMAGE={image}`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "disk.raw").symlink_to(build.disk.resolve())
        print(f"{image} is booted and used ...", flush=True)
        guest.facts("support.drift.used", folder)
        looked_at = outside(build, folder / "used.qcow2")
        changed = sum(stop - start for start, stop in looked_at.changed or ())
        record = disk_check.check(build, looked_at)
        ours = min(processor_s(lambda: disk_check.check(build, outside(build, folder / "used.qcow2")))
                   for _ in range(RUNS))
        print("AIDE reads the same tree ...", flush=True)
        first, again = aide(build, folder)
    data = build.disk.stat().st_blocks * 512
    found = {"image": image, "build_id": build.path.resolve().name, "paths": record.paths, "drift": len(record.drift),
             "outside_s": round(ours, 2), "read_bytes": changed, "data_bytes": data, "aide_init_s": round(first, 2),
             "aide_check_s": round(again, 2)}
    print(f"{record.paths} paths, {data / 1e9:.2f} GB of data; {len(record.drift)} differences that no rule allows")
    print(f"from outside: {ours:.2f} s of processor (aim {AIM_S:g}), {changed / 1e6:.0f} MB read, "
          f"{changed / data:.1%} (aim {AIM_SHARE:.0%})")
    print(f"AIDE: {again:.2f} s of processor for a check, {first:.2f} s to begin with; it reads all of it")
    write_text(ROOT / "build/bench/drift.json", canonical(found))


if __name__ == "__main__":
    main()
