"""Root trees made by mmdebstrap from a local repository, without the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami import shell
from goldenami.local import container
from goldenami.local.layers import Stack

BASE_EPOCH = 315532800
"""1980-01-01: a base tree is shared by locks of different dates, so it carries none of them."""


@dataclass(frozen=True)
class Tree:
    """What to make: the suite's name, the repository's folder and the packages beyond the essential ones."""

    suite: str
    repo: Path
    include: Sequence[str]
    architecture: str = "amd64"


def bootstrap(tree: Tree, target: Path, *, log: Path, epoch: int) -> None:
    """Make `target` (which must not exist) from `tree`; a failure leaves nothing.

    dpkg's fsyncs of files are off for the bake: the tree is worthless if the machine dies, and they dominate on slow
    disks. The setting goes with the other bake-time files when the image is sealed.
    """
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = [
        shell.require("mmdebstrap", "mmdebstrap"), "--mode=root", "--variant=essential", "--format=directory",
        f"--architectures={tree.architecture}", f"--include={','.join(tree.include)}",
        "--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"",
        "--dpkgopt=force-unsafe-io", tree.suite, str(aside), f"deb [trusted=yes] copy:{tree.repo} ./",
    ]
    try:
        shell.stream(argv, log=log, env={"SOURCE_DATE_EPOCH": str(epoch)})
        (aside / "etc/hostname").write_text("golden\n", encoding="utf-8")
        (aside / "etc/resolv.conf").write_text("", encoding="utf-8")
        for source in [aside / "etc/apt/sources.list", *(aside / "etc/apt/sources.list.d").glob("*")]:
            source.unlink(missing_ok=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def base(stack: Stack, plan: dict[str, Any], log: Path) -> None:
    """Put the base tree of `plan` at the bottom of `stack`, made where it is not there yet."""
    key = plan["base_key"]
    if not stack.take(key):
        tree = Tree(suite=plan["suite"], repo=Path(plan["repo"]), include=plan["include"],
                    architecture=plan["architecture"])
        with stack.make(key, "base") as folder:
            (folder / "nothing").mkdir()
            with container.overlay([folder / "nothing"], folder) as merged:
                bootstrap(tree, merged / "root", log=log, epoch=BASE_EPOCH)
            (folder / "upper/root").rename(folder / "root")
            container.forget_overlay(folder)
            (folder / "nothing").rmdir()
