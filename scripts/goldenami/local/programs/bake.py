"""`python -m goldenami.local.programs.bake PLAN`: the hermetic part of a bake, inside its own namespaces.

base tree -> for each step a container, Packer with Ansible, a layer -> sealed tree -> disk. There is no route out.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldenami.core import records, shell
from goldenami.core.errors import GoldenError, StageFailed, space
from goldenami.local import container, events, packer
from goldenami.local.code_coverage import coverage
from goldenami.local.container import Container
from goldenami.local.disk import disk
from goldenami.local.tree import layers, rootfs, sealed, sizes


def main() -> int:
    """Run the plan; an expected failure becomes an event and an exit status."""
    plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        with space(Path(plan["work"])):
            _bake(plan)
    except GoldenError as error:
        return events.fail(error)
    return 0


def _bake(plan: dict[str, Any]) -> None:
    """Bake, anew as often as a layer turns out to be damaged: each time there is one layer less to start from."""
    while True:
        with layers.Stack(Path(plan["layers"]), say=lambda text: events.emit("say", text=text)) as stack:
            _build_layers(plan, stack)
            with _last_step(plan, stack) as root:
                damaged = stack.damaged()
                if not damaged:
                    _finish(plan, stack, root)
                    break
        events.emit("say", text=f"damaged layer removed ({', '.join(damaged)}): baking again without it")
    for name in layers.evict(Path(plan["layers"]), plan["layers_limit_bytes"]):
        events.emit("say", text=f"layer {name} removed: not used for longest")


def _build_layers(plan: dict[str, Any], stack: layers.Stack) -> None:
    """Stack all layers but the last step's; what is there already is taken from the cache."""
    log = Path(plan["log"])
    with events.step("base"):
        rootfs.base(stack, plan, log)
    steps = plan["steps"][:-1]
    done = next((number for number, step in enumerate(steps) if not stack.take(step["key"])), len(steps))
    if stack.reused:
        events.emit("say", text=f"starts from layer {stack.reused[-1]}")
    for step in steps[done:]:
        with stack.make(step["key"], step["name"]) as folder:
            if folder is None:
                continue
            with _tree_after(plan, step, stack, folder):
                pass
            (folder / "upper").rename(folder / "root")
            container.forget_overlay(folder)


@contextlib.contextmanager
def _last_step(plan: dict[str, Any], stack: layers.Stack) -> Iterator[Path]:
    """The sealed tree: the last step is different in each lock, so no layer is kept of it."""
    scratch = Path(plan["work"]) / "layer"
    shutil.rmtree(scratch, ignore_errors=True)  # of a first try on a damaged layer
    scratch.mkdir()
    with _tree_after(plan, plan["steps"][-1], stack, scratch) as root:
        stack.trees.append(scratch / "upper")
        yield root


@contextlib.contextmanager
def _tree_after(plan: dict[str, Any], step: dict[str, Any], stack: layers.Stack, scratch: Path) -> Iterator[Path]:
    """The tree that `step` makes of the layers below it, on an overlay in `scratch`.

    Where a process of Ansible died the step starts over, once, from the layers: half a step is never gone on with.
    """
    with container.overlay(stack.lowers, scratch) as root:
        died = _died(plan, step, root)
        if died is None:
            yield root
            return
    events.emit("say", text=f"{died.message}: step {step['name']} starts over")
    container.forget_overlay(scratch)
    with container.overlay(stack.lowers, scratch) as root:
        _run_step(plan, step, root)
        yield root


def _died(plan: dict[str, Any], step: dict[str, Any], root: Path) -> packer.AnsibleDied | None:
    try:
        _run_step(plan, step, root)
    except packer.AnsibleDied as error:
        return error
    return None


def _finish(plan: dict[str, Any], stack: layers.Stack, root: Path) -> None:
    work, log = Path(plan["work"]), Path(plan["log"])
    with events.step("seal check"):
        sealed.check(root, Path(plan["root"]) / "roles/seal/files/seal.py")
        _compare_packages(plan, root)
    with events.step("coverage"):
        coverage.hold(root, plan["coverage"], work / "out", log)
    with events.step("disk"):
        facts = disk.write_disk(root, work / "out/disk.raw", layout=_layout(plan), log=log,
                                ranks=layers.ranks(stack.trees))
    records.write_text(work / "result.json", records.canonical({
        "disk": {"apparent": facts.size_bytes, "allocated": facts.data_bytes, "sha256": facts.sha256,
                 "note": facts.note},
        "sizes": sizes.by_package(root, facts.manifest), "layers": stack.reused,
        "manifest_sha256": records.sha256_file(facts.manifest),
    }))


def _layout(plan: dict[str, Any]) -> disk.DiskLayout:
    return disk.DiskLayout(image=plan["image"], size_bytes=plan["disk_size_gib"] << 30,
                           source_date_epoch=plan["epoch"])


def _run_step(plan: dict[str, Any], step: dict[str, Any], root: Path) -> None:
    """Run the roles of one step in a container on `root`, which sees no package of a later step."""
    work, log = Path(plan["work"]), Path(plan["log"])
    container.use_repository(root, step["view"])
    console = log.with_name(f"{log.stem}-console.log")
    name = f"golden-{plan['build_id']}"
    scratch = work / step["view"]
    scratch.mkdir(exist_ok=True)
    with events.step(step["name"]), container.running(
        root, scratch, name=name, repo=Path(plan["repo"]), console=console,
    ) as box:
        if step["installs"]:
            box.ssh("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any")
        if step["replaces"]:
            box.ssh("DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "-q", "--only-upgrade",
                    "--no-install-recommends", *step["replaces"])
        _packer(plan, step, box, work, log)


def _packer(plan: dict[str, Any], step: dict[str, Any], box: Container, work: Path, log: Path) -> None:
    """`packer build` of the local source, with its state in `work`."""
    packer.build(
        "null.local", {"lock": plan["lock"], "vars": step["vars"], "ssh_host": box.address, "ssh_key": box.ssh_key},
        work=work, step=step["view"], root=Path(plan["root"]), log=log, env={"HOME": str(work)},
        on_line=lambda line: _say_role(packer.role_of(line)))


def _say_role(role: str | None) -> None:
    if role:
        events.emit("say", text=f"role {role}")


def _compare_packages(plan: dict[str, Any], root: Path) -> None:
    """StageFailed where the packages of the sealed tree are not exactly the lock's."""
    text = shell.output(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W",
                         "-f", "${db:Status-Abbrev}\t${Package}\t${Version}\n"])
    found = {name: version for status, name, version in (line.split("\t") for line in text.splitlines())
             if status.startswith(("ii", "hi"))}
    broken = sorted(line for line in text.splitlines() if line[1:2] not in ("i", "n", "c"))
    alien = sorted(f"{name} {version}" for name, version in found.items() if plan["packages"].get(name) != version)
    if alien or broken:
        raise StageFailed(f"the tree holds packages that the lock does not name: {', '.join((broken + alien)[:8])}",
                          hint="a role installed or upgraded something outside the locked repository")


if __name__ == "__main__":
    sys.exit(main())
