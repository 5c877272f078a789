"""Commands on the frameworks of an image."""

from __future__ import annotations

import argparse

from goldenami.bake import bake_inputs
from goldenami.commands import ROOT, Add
from goldenami.commands.stores import open_store
from goldenami.compilation import wheel_builds
from goldenami.core.cache_paths import CachePaths
from goldenami.core.progress import Progress
from goldenami.local import workspace
from goldenami.model import definition_file, lockfile
from goldenami.model.lockfile import Framework


def cmd_wheels(args: argparse.Namespace) -> int:
    """Build the lock's wheels that this machine lacks; say of each framework where it comes from and why."""
    wanted = definition_file.load(ROOT, definition_file.path_of(ROOT, args.image))
    found, _ = lockfile.read(lockfile.path_of(ROOT, args.image))
    lockfile.check_fresh(ROOT, found, wanted)
    kept, progress = open_store(), Progress.of("wheels", args.image, CachePaths.default())
    log = ROOT / "build" / args.image / "logs/wheels.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with workspace.image_lock(ROOT, args.image, wait=args.wait):
        log.write_text("", encoding="utf-8")
        bake_inputs.fetch(found, kept, progress)
        wheel_builds.rebuild(ROOT, found, kept, progress, log)
    progress.remember()
    for framework in found.frameworks:
        print(describe(framework))
    if not found.frameworks:
        print(f"{args.image} has no frameworks: `frameworks: [...]` in its definition asks for them")
    return 0


def describe(framework: Framework) -> str:
    """`hnswlib 0.8.0: compiled for znver4 (key 009271860055), 0.2 MB: the index has no wheel; 1.59x over ...`."""
    made = framework.made
    origin = f"compiled for {made.target.cpu} (key {made.key[:12]})" if made else "the index's wheel"
    tests = f"; its own tests: {made.result}" if made and made.result else ""
    size = framework.wheel.size / 1e6
    return f"{framework.name} {framework.version}: {origin}, {size:.1f} MB: {framework.why}{tests}"


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    add("wheels", cmd_wheels, "1").add_argument("--wait", action="store_true",
                                                help="wait for another run on the same image")
