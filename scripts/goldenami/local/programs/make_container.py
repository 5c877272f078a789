"""Make the container image of a lock, in namespaces of its own: `python -m
goldenami.local.programs.make_container PLAN`.

layers as of a bake -> without what only a machine needs -> sealed tree -> an image in OCI's layout.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from goldenami.core import records, shell
from goldenami.local.machine import container
from goldenami.local.programs import bake_tree
from goldenami.local.sandbox import events, program
from goldenami.local.tree import apt_sources, image_layers, layers, read_facts, rootfs, sealed
from goldenami.local.tree import tree as trees
from goldenami.local.tree.oci_layout import WORK, OciLayout
from goldenami.model import program_files
from goldenami.model.builds.container_records import ContainerLayer
from goldenami.model.builds.plans import ContainerPlan, ContainerResult
from goldenami.model.roles import role_files

PROTECTED = ("e2fsprogs", "init", "systemd", "systemd-sysv")
"""Packages without which a machine does not boot: dpkg removes them only if they are named."""


def make(plan: ContainerPlan) -> ContainerResult:
    """Make the image of a plan, and return its digest, layers and parts."""
    return bake_tree.on_layers(plan, lambda stack: _make(plan, stack))


def _make(plan: ContainerPlan, stack: layers.Stack) -> ContainerResult:
    bake_tree.build_layers(plan, stack, plan.steps)
    scratch = plan.work / "layer"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    with container.overlay(stack.lowers, scratch) as tree:
        _seal(plan, tree)
        stack.check_whole()
        digest, image_layers = _write(plan, tree, [*stack.trees, scratch / "upper"])
        return ContainerResult(
            digest=digest, layers=image_layers, parts=read_facts.gather(tree).parts
        )


def _seal(plan: ContainerPlan, tree: Path) -> None:
    """Remove what only a machine needs and what belongs to the bake; then add what a container has
    instead of a first boot."""
    # Before the removal, since cloud-init goes with it.
    sources = apt_sources.of_cloud_init(tree, plan.tree.suite)
    with events.step("machine's parts"), _inside(tree):
        installed = _packages(tree)
        kept = [name for name in plan.keeps if name in installed]
        # apt removes what is marked `auto` and needed by nothing that is marked `manual`.
        _in(plan, tree, "apt-mark", "auto", *installed)
        _in(plan, tree, "apt-mark", "manual", *kept)
        _in(
            plan,
            tree,
            "apt-get",
            "--yes",
            "--purge",
            "--auto-remove",
            "remove",
            "-q",
            "--allow-remove-essential",
            *(name for name in PROTECTED if name in installed),
            "-o",
            "APT::AutoRemove::RecommendsImportant=false",
            "-o",
            "APT::AutoRemove::SuggestsImportant=false",
        )
    with events.step("seal"):
        seal = program_files.role(plan.root, "seal") / "files/seal.py"
        shell.stream(
            [
                sys.executable,
                "-I",
                "-B",
                str(seal),
                "--root",
                str(tree),
                "--epoch",
                str(rootfs.BASE_EPOCH),
            ],
            log=plan.log,
        )
        variables = records.read_object(plan.work / "out/vars.json")
        sealed.check(tree, seal, role_files.of_image(plan.root, variables))
    (tree / apt_sources.PATH).write_text(sources, encoding="utf-8")
    shell.output(["install", "-d", "-m", "1777", f"{tree}{WORK}"])


def _packages(tree: Path) -> list[str]:
    text = shell.output(
        [
            "dpkg-query",
            f"--admindir={tree}/var/lib/dpkg",
            "-W",
            "-f",
            "${db:Status-Abbrev} ${Package}\n",
        ]
    )
    return sorted(line.split()[1] for line in text.splitlines() if line.startswith("ii"))


@contextlib.contextmanager
def _inside(tree: Path) -> Iterator[None]:
    """Mount a /dev and a /proc in `tree` while programs run in it."""
    dev = rootfs.devices(tree)
    shell.output(["mount", "-t", "proc", "proc", str(tree / "proc")])
    try:
        yield
    finally:
        shell.output(["umount", str(tree / "proc"), str(dev)])


def _in(plan: ContainerPlan, tree: Path, *words: str) -> None:
    shell.stream(
        [
            "chroot",
            str(tree),
            "env",
            "-i",
            "LC_ALL=C.UTF-8",
            "HOME=/root",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
            f"SOURCE_DATE_EPOCH={rootfs.BASE_EPOCH}",
            "SUDO_FORCE_REMOVE=yes",
            *words,
        ],
        log=plan.log,
    )


def _write(plan: ContainerPlan, tree: Path, stack: list[Path]) -> tuple[str, list[ContainerLayer]]:
    """Write the image of `tree`, and return the manifest's SHA-256 and the layers."""
    layout, tar, written = OciLayout(plan.layout, plan.build_id), plan.work / "layer.tar", []
    with events.step("image"):
        layout.begin()
        entries = image_layers.dated(trees.scan(tree), tree, plan.source_date_epoch)
        for name, layer_entries in image_layers.split(entries, stack, plan.groups).items():
            with tar.open("wb") as sink:
                trees.stream_tar(tree, layer_entries, sink, epoch=plan.source_date_epoch)
            digest, size = layout.add(tar, name, plan.created)
            unpacked = sum(entry.size for entry in layer_entries)
            written.append(ContainerLayer(name=name, digest=digest, bytes=size, unpacked=unpacked))
        tar.unlink()
        layout.configure(
            architecture=plan.tree.architecture,
            environment=plan.environment,
            entrypoint=plan.entrypoint,
            labels=plan.labels,
            created=plan.created,
        )
    return layout.digest, written


if __name__ == "__main__":
    sys.exit(program.serve(ContainerPlan, make))
