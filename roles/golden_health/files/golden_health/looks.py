"""The command `golden-health`: what the last look found; and a look, with who is told of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golden_idle import account, metrics
from golden_idle.account import AccountError
from golden_idle.metrics import Figure, Minute
from golden_idle.settings import WrongSettings

from golden_health import findings, gpu_calls, gpu_facts, jobs, machine_facts
from golden_health.findings import Finding

SETTINGS, STATE = Path("etc/golden-health.json"), Path("run/golden-health/state.json")
LOGIN = Path("run/motd.d/40-golden-health")
"""What a login is told (pam_motd(8))."""
QUICK_S, PATIENT_S = 2.0, 30.0
"""Seconds that a call may take after a boot, and on a machine that may be at work."""
TAG, TAG_LENGTH, METRIC = "goldenami:health", 256, "golden_health_findings"
NEVER, IDLE, ALWAYS = "never", "idle", "always"
KEYS = {"replace": str, "publish_enabled": bool, "types": dict}
TRIES_S = (0, 20, 60, 180)
"""Seconds before each try to tell AWS: the network may come after this unit."""
HEALTHY, ILL, WRONG, UNKNOWN = 0, 1, 2, 3

State = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 healthy or done, 1 something was found, 2 wrong settings, 3 no look yet."""
    arguments = parser().parse_args(argv)
    run: Callable[[Path], int] = arguments.command
    try:
        return run(arguments.root)
    except WrongSettings as error:
        print(f"golden-health: error: {error}", file=sys.stderr)
    except PermissionError as error:
        print(
            f"golden-health: error: {error.filename}: {error.strerror}: begin with `sudo`",
            file=sys.stderr,
        )
    return WRONG


def parser() -> argparse.ArgumentParser:
    """The command's grammar."""
    made = argparse.ArgumentParser(prog="golden-health", description=__doc__.split(":")[0])
    made.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    texts = {
        status: "say what the last look found",
        look: "look, as its timer does, and tell",
        check: "check the settings",
    }
    for command, text in texts.items():
        commands.add_parser(command.__name__, help=text).set_defaults(command=command)
    return made


def status(root: Path) -> int:
    """What the last look found."""
    state = read(root)
    if state is None:
        print("golden-health has not looked yet: `systemctl status golden-health`", file=sys.stderr)
        return UNKNOWN
    minutes = (time.clock_gettime(time.CLOCK_BOOTTIME) - state["at"]) / 60
    print(f"{words(state) or 'healthy'}\n{minutes:.0f} minutes ago, in {state['seconds']:.1f} s")
    for line in state["told"]:
        print(line)
    return ILL if state["findings"] else HEALTHY


def check(root: Path) -> int:
    """Whether the settings are right."""
    load(root)
    return HEALTHY


def load(root: Path) -> dict[str, Any]:
    """The image's settings; WrongSettings, one line, for the first thing that is wrong."""
    path = root / SETTINGS
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongSettings(
            f"{path}: {error}: bake the image with the role golden_health"
        ) from None
    for key, kind in KEYS.items():
        if not isinstance(values.get(key), kind):
            raise WrongSettings(f"{path}: {key} is {values.get(key)!r}, no {kind.__name__}")
    if values["replace"] not in (NEVER, IDLE, ALWAYS):
        raise WrongSettings(
            f"{path}: replace is {values['replace']!r}: write {NEVER}, {IDLE} or {ALWAYS}"
        )
    return values


def look(root: Path) -> int:
    """Look, say it to logins, and then to AWS."""
    known, earlier = load(root), read(root)
    if earlier is None:
        facts = machine_facts.around(root)
        found = findings.judge(facts, known["types"].get(facts["type"]))
        say(root, "\n".join(each.text for each in found))
        machine_facts.wait_for_daemons()
    state = looked(
        root,
        known,
        PATIENT_S if earlier else QUICK_S,
        cuda=earlier is None or bool(earlier["findings"]),
    )
    if state["again"]:
        state = looked(root, known, PATIENT_S, cuda=True)
    replaced = bool(earlier and earlier["replaced"])
    if known["publish_enabled"]:
        state["told"] = [told] if (told := persistently(lambda: publish(state))) else []
    if (
        known["replace"] != NEVER
        and not replaced
        and any(row["broken"] for row in state["findings"])
    ):
        if known["replace"] == IDLE and wait_for_jobs(root, state):
            return look(root)  # it may have been mended meanwhile
        refused = persistently(replace)
        replaced = not refused
        state["told"] = [refused or "Auto Scaling is told to replace this machine"]
    write(root, state | {"replaced": replaced})
    return HEALTHY


def looked(root: Path, known: Mapping[str, Any], call_s: float, *, cuda: bool) -> State:
    """One look, written down where calls have so long."""
    began = time.monotonic()
    gpu_calls.CALL_S, gpu_calls.LOAD_S = call_s, 0.0
    facts, earlier = machine_facts.gather(root, cuda=cuda), (read(root) or {}).get("log", {})
    # The kernel's log forgets; a fault lasts until the machine boots.
    log = {
        name: sorted({*facts[name], *map(tuple, earlier.get(name, ()))})
        for name in gpu_facts.LOGGED
    }
    facts |= log
    kind = known["types"].get(facts["type"])

    def judged() -> State:
        found = findings.judge(facts, kind)
        state = {
            "at": time.clock_gettime(time.CLOCK_BOOTTIME),
            "seconds": time.monotonic() - began,
            "type": facts["type"],
            "findings": [vars(each) for each in found],
            "told": [],
            "replaced": False,
            "log": log,
            "again": call_s < PATIENT_S and findings.unanswered(facts),
        }
        write(root, state)
        return state

    state = judged()
    wanted = not facts["cuda_error"] and (cuda or findings.is_narrow(facts, kind))
    if wanted and not any(jobs.users_of_cuda(root)):
        link = (kind["pcie_generation"], kind["pcie_width"]) if kind else (0, 0)
        gpu_facts.wake(facts["gpus"], link)
        state = judged()
    return state


def words(state: State) -> str:
    """A line for each finding."""
    return "\n".join(Finding(**row).text for row in state["findings"])


def read(root: Path) -> State | None:
    """The last look since boot."""
    path = root / STATE
    found: State | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def write(root: Path, state: State) -> None:
    """For `golden-health status`, and for logins where something is wrong."""
    put(root / STATE, json.dumps(state))
    say(root, words(state), *state["told"])


def say(root: Path, said: str, *told: str) -> None:
    """Tell logins what is wrong, and what follows; nothing where nothing is."""
    lines = ("golden-health found on this machine:", said, *told)
    put(root / LOGIN, "\n".join(lines) + "\n" if said else "")


def put(path: Path, text: str) -> None:
    """Write a file at once, readable to all; none without text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.chmod(0o644)
    part.replace(path)
    if not text:
        path.unlink()


def persistently(tell: Callable[[], None]) -> str:
    """Tell AWS something; why it could not be told, where it never took it."""
    refused = ""
    for seconds in TRIES_S:
        time.sleep(seconds)
        try:
            tell()
        except AccountError as error:
            refused = str(error)
            if error.never:
                break
        else:
            return ""
    print(refused, flush=True)
    return refused


def publish(state: State) -> None:
    """The number of findings as a metric, and their words as the instance's tag."""
    here, minute = account.connect(), Minute()
    dimensions = dict(here.instance.dimensions)
    if group := here.group():
        dimensions[metrics.GROUP] = group
    metrics.add(minute, iter([Figure(METRIC, float(len(state["findings"])))]))
    here.put(metrics.data(minute, time.time(), dimensions))
    here.tag(TAG, (words(state).replace("\n", " / ") or "healthy")[:TAG_LENGTH])


def wait_for_jobs(root: Path, state: State) -> bool:
    """Until nobody works here; whether there was anybody."""
    watch, said = jobs.Watch(root), ""
    while not watch.is_quiet():
        if watch.quiet.job != said:
            said = watch.quiet.job
            write(root, state | {"told": [f"not replaced while a job runs: {said}"]})
    return bool(said)


def replace() -> None:
    """Tell the instance's group that it is broken; AccountError where it is in none."""
    here = account.connect()
    if not here.group():
        raise AccountError("not replaced: the instance is in no Auto Scaling group", never=True)
    here.fail()
