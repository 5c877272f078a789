"""`python -m goldenami.local.bake_inside PLAN`: the hermetic part of a bake, inside its own namespaces.

base tree -> for each step a container, Packer with Ansible, a layer -> sealed tree -> disk. There is no route out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldenami import records, shell
from goldenami.build_records import COVERAGE_FILE, Allowance
from goldenami.errors import GoldenError, StageFailed
from goldenami.local import container, coverage, disk, events, layers, rootfs, sandbox, sealed, sizes
from goldenami.local.container import Container
from goldenami.local.coverage import Target

_FATAL = re.compile(r"(fatal: \[.*?\]: \w+!|FAILED! => |failed: \[)")
_TASK = re.compile(r"^.*TASK \[(?P<task>[^\]]+)\]")
_ROLE_LINE = re.compile(r"^.*golden-role (?P<role>\S+)")


def main() -> int:
    """Run the plan; an expected failure becomes an event and an exit status."""
    plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        _bake(plan)
    except GoldenError as error:
        return events.fail(error)
    return 0


def _bake(plan: dict[str, Any]) -> None:
    """Bake, anew as often as a layer turns out to be damaged: each time there is one layer less to start from."""
    while True:
        with layers.Stack(Path(plan["layers"])) as stack:
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
            with container.overlay(stack.lowers, folder) as root:
                _run_step(plan, step, root)
            (folder / "upper").rename(folder / "root")
            container.forget_overlay(folder)


@contextlib.contextmanager
def _last_step(plan: dict[str, Any], stack: layers.Stack) -> Iterator[Path]:
    """The sealed tree: the last step is different in each lock, so no layer is kept of it."""
    scratch = Path(plan["work"]) / "layer"
    shutil.rmtree(scratch, ignore_errors=True)  # of a first try on a damaged layer
    scratch.mkdir()
    with container.overlay(stack.lowers, scratch) as root:
        _run_step(plan, plan["steps"][-1], root)
        stack.trees.append(scratch / "upper")
        yield root


def _finish(plan: dict[str, Any], stack: layers.Stack, root: Path) -> None:
    work, log = Path(plan["work"]), Path(plan["log"])
    with events.step("seal check"):
        sealed.check(root, Path(plan["root"]) / "roles/seal/files/seal.py")
        upgradable = _compare_packages(plan, root)
    with events.step("coverage"):
        _cover(plan, root)
    with events.step("disk"):
        facts = disk.write_disk(root, work / "out/disk.raw", layout=_layout(plan), log=log,
                                ranks=layers.ranks(stack.trees))
    provenance = json.loads((work / "out/vars.json").read_text(encoding="utf-8"))["provenance_record"]
    records.write_text(work / "result.json", records.canonical({
        "disk": {"apparent": facts.size_bytes, "allocated": facts.disk.stat().st_blocks * 512, "sha256": facts.sha256,
                 "reproducible": facts.reproducible, "note": facts.note},
        "roles": _role_seconds(work), "upgradable": upgradable, "sizes": sizes.by_package(root, facts.manifest),
        "layers": stack.reused, "git_commit": provenance["git_commit"],
        "packer": shell.output(["packer", "version"]).split("v")[-1].strip(),
        "manifest_sha256": records.sha256_file(facts.manifest),
    }))


def _cover(plan: dict[str, Any], root: Path) -> None:
    """Hold the code that no distribution compiled to the declared machines; the record goes with the build."""
    wanted = plan["coverage"]
    allowances = [Allowance.model_validate(entry) for entry in wanted["allow"]]
    record = coverage.scan(root, wanted["folders"], Target(wanted["features"], wanted["sm"]), allowances)
    records.write(Path(plan["work"]) / "out" / COVERAGE_FILE, record)
    with Path(plan["log"]).open("a", encoding="utf-8") as log:
        log.writelines(f"coverage: {coverage.describe(found)}\n" for found in record.findings)
    coverage.demand(record)


def _role_seconds(work: Path) -> dict[str, float]:
    """Seconds of each role that ran, from the files that the callback plugin wrote, one a step."""
    found: dict[str, float] = {}
    for path in work.glob("roles-*.json"):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


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
    """`packer build` of the local source; a failure names the role's task and its message."""
    root = Path(plan["root"])
    tail: list[str] = []

    def on_line(line: str) -> None:
        tail.append(line)
        if match := _ROLE_LINE.match(line):
            events.emit("say", text=f"role {match['role']}")

    argv = ["packer", "build", "-color=false", "-only=null.local", "-var", f"lock={plan['lock']}",
            "-var", f"vars={step['vars']}", "-var", f"ssh_host={box.address}",
            "-var", f"ssh_key={box.ssh_key}", "packer"]
    env = _packer_environment(work, step["view"])
    try:
        shell.stream(argv, log=log, cwd=root, env=env, on_line=on_line)
    except shell.CommandFailed:
        raise StageFailed(*_cause(tail), hint="fix the role, or run its scenario alone: make molecule ROLE=<role>",
                          tail="\n".join(tail[-shell.TAIL_LINES:])) from None


def _packer_environment(work: Path, step: str) -> dict[str, str]:
    """Packer and Ansible with their state in `work`; plugins are where `make setup` had `packer init` put them."""
    plugins = os.environ.get("PACKER_PLUGIN_PATH") or str(Path.home() / ".config/packer/plugins")
    return {
        "CHECKPOINT_DISABLE": "1", "PACKER_CONFIG_DIR": str(work), "PACKER_CACHE_DIR": str(work / "packer-cache"),
        "PACKER_PLUGIN_PATH": plugins, "HOME": str(work), "ANSIBLE_LOCAL_TEMP": str(work / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{sandbox.RUN}/{step}", "ANSIBLE_REMOTE_TMP": "/run/golden-ansible",
        "GOLDEN_TIMINGS": str(work / f"roles-{step}.json"), "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1",
        **_strategy(),
    }


def _strategy() -> dict[str, str]:
    """Mitogen's strategy, unless GOLDEN_MITOGEN=0: Ansible has announced the end of third-party strategies.

    It keeps one interpreter in the container instead of starting one for each task.
    """
    found = importlib.util.find_spec("ansible_mitogen")
    if os.environ.get("GOLDEN_MITOGEN", "1") == "0" or found is None or found.origin is None:
        return {}
    return {"ANSIBLE_STRATEGY": "mitogen_linear",
            "ANSIBLE_STRATEGY_PLUGINS": str(Path(found.origin).parent / "plugins/strategy")}


def _cause(lines: list[str]) -> tuple[str]:
    """The task that failed and what it said, from Packer's copy of Ansible's output."""
    task = ""
    for number, line in enumerate(lines):
        if match := _TASK.match(line):
            task = match["task"]
        if _FATAL.search(line):
            text = " ".join(part.partition(": ")[2] for part in lines[number:number + 40])
            said = re.search(r'"msg": "((?:[^"\\]|\\.)*)"', text)
            message = json.loads(f'"{said[1]}"') if said else line.strip()
            return (f"task [{task}] failed: {message}{_reached_for(text, message)}",)
    errors = [line for line in lines if "rror" in line]
    return (f"packer failed: {errors[-1].strip() if errors else 'see the log'}",)


def _reached_for(text: str, message: str) -> str:
    """The address that a task wanted where there is no network, unless its message has it already."""
    address = re.search(r"https?://[^\s\"'\\]+", text)
    if "etwork is unreachable" not in message or address is None or address[0] in message:
        return ""
    return f" ({address[0]}: a bake has no network, only the lock's packages)"


def _compare_packages(plan: dict[str, Any], root: Path) -> list[str]:
    """Packages of the sealed tree that are not exactly the lock's; what is upgradable against the lock."""
    text = shell.output(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W",
                         "-f", "${db:Status-Abbrev}\t${Package}\t${Version}\n"])
    found = {name: version for status, name, version in (line.split("\t") for line in text.splitlines())
             if status.startswith(("ii", "hi"))}
    broken = sorted(line for line in text.splitlines() if line[1:2] not in ("i", "n", "c"))
    alien = sorted(f"{name} {version}" for name, version in found.items() if plan["packages"].get(name) != version)
    if alien or broken:
        raise StageFailed(f"the tree holds packages that the lock does not name: {', '.join((broken + alien)[:8])}",
                          hint="a role installed or upgraded something outside the locked repository")
    return alien


if __name__ == "__main__":
    sys.exit(main())
