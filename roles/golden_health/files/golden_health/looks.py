"""The command `golden-health`: it examines the machine, tells logins and AWS, and says what the
last look found."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golden_idle import account, metrics
from golden_idle.account import AccountError
from golden_idle.metrics import Figure, Minute
from golden_idle.settings import WrongSettings

from golden_health import findings, gpu_calls, gpu_facts, jobs, kernel_log, machine_facts
from golden_health.findings import Finding

SETTINGS, STATE = Path("etc/golden-health.json"), Path("run/golden-health/state.json")
LOGIN = Path("run/motd.d/40-golden-health")
"""The file that a login shows (pam_motd(8))."""
QUICK_S, PATIENT_S = 2.0, 30.0
"""Seconds that a call may take: at the first look after a boot, and on a machine that may be
busy."""
TAG, TAG_LENGTH, METRIC = "goldenami:health", 256, "golden_health_findings"
NEVER, IDLE, ALWAYS = "never", "idle", "always"
KEYS = {"replace": str, "publish_enabled": bool, "types": dict}
"""The settings and the types of their values."""
TRIES_S = (0, 20, 60, 180)
"""Seconds before each try to tell AWS: the network may come after this unit."""
HEALTHY, ILL, WRONG, UNKNOWN = 0, 1, 2, 3

KEPT = (*kernel_log.LOGGED, "troubles", "seen")  # facts that hold until the next boot
State = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Run the command. The exit status is 0: healthy or done, 1: something was found, 2: wrong
    settings, 3: no look yet."""
    arguments = parser().parse_args(argv)
    run: Callable[[Path], int] = arguments.command
    try:
        return run(arguments.root)
    except WrongSettings as error:
        print(f"golden-health: error: {error}", file=sys.stderr)
    return WRONG


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_line = argparse.ArgumentParser(prog="golden-health", description=__doc__.split(":")[0])
    command_line.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    commands = command_line.add_subparsers(metavar="COMMAND", required=True)
    texts = {
        status: "say what the last look found",
        look: "look, as its timer does, and tell",
        check: "check the settings",
    }
    for command, text in texts.items():
        commands.add_parser(command.__name__, help=text).set_defaults(command=command)
    return command_line


def status(root: Path) -> int:
    """Print what the last look found."""
    state = read(root)
    if state is None:
        print("golden-health has not looked yet: `systemctl status golden-health`", file=sys.stderr)
        return UNKNOWN
    return show(state)


def show(state: State) -> int:
    """Print what a look found."""
    # The state is in /run and ends with the boot, so the time since boot serves as a clock.
    minutes = (time.clock_gettime(time.CLOCK_BOOTTIME) - state["at"]) / 60
    print(f"{words(state) or 'healthy'}\n{minutes:.0f} minutes ago, in {state['seconds']:.1f} s")
    for line in state["told"]:
        print(line)
    return ILL if state["findings"] else HEALTHY


def check(root: Path) -> int:
    """Check the settings."""
    load(root)
    return HEALTHY


def load(root: Path) -> dict[str, Any]:
    """Return the image's settings. Raises WrongSettings for the first one that is wrong."""
    path = root / SETTINGS
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongSettings(
            f"{path}: {error}: bake the image with the role golden_health"
        ) from None
    for key, value_type in KEYS.items():
        if not isinstance(values.get(key), value_type):
            raise WrongSettings(f"{path}: {key} is {values.get(key)!r}, no {value_type.__name__}")
    if values["replace"] not in (NEVER, IDLE, ALWAYS):
        raise WrongSettings(
            f"{path}: replace is {values['replace']!r}: write {NEVER}, {IDLE} or {ALWAYS}"
        )
    return values


def look(root: Path) -> int:
    """Examine the machine, and tell logins and then AWS; tell a user who is not root alone."""
    settings, earlier = load(root), read(root)
    if not may_tell(root):
        state = looked(root, settings, PATIENT_S, cuda=True)
        state["told"] = ["the kernel's log and copies by GPUs: as root last saw them"]
        return show(state)
    if earlier is None:
        # First what is known without the driver, whose daemons may not be ready yet.
        facts = machine_facts.around(root)
        first_findings = findings.judge(facts, settings["types"].get(facts["type"]))
        say(root, "\n".join(finding.text for finding in first_findings))
        machine_facts.wait_for_daemons()
        state = looked(root, settings, QUICK_S, cuda=True)
    else:
        state = looked(root, settings, PATIENT_S, cuda=bool(earlier["findings"]))
    if state["again"]:
        # A busy machine may have been too slow for the short limit.
        state = looked(root, settings, PATIENT_S, cuda=True)
    replaced = bool(earlier and earlier["replaced"])
    if settings["publish_enabled"]:
        failure = persistently(lambda: publish(state))
        state["told"] = list(filter(None, [failure]))
    if (
        settings["replace"] != NEVER
        and not replaced
        and any(row["broken"] for row in state["findings"])
    ):
        if settings["replace"] == IDLE and wait_for_jobs(root, state):
            return look(root)  # it may have been mended meanwhile
        refused = persistently(replace)
        replaced = not refused
        state["told"] = [refused or "Auto Scaling is told to replace this machine"]
    write(root, state | {"replaced": replaced})
    return HEALTHY


def looked(root: Path, settings: Mapping[str, Any], call_s: float, *, cuda: bool) -> State:
    """Examine the machine and write down the result. A call may take `call_s` seconds."""
    began = time.monotonic()
    gpu_calls.CALL_S, gpu_calls.LOAD_S = call_s, 0.0
    facts, earlier = machine_facts.gather(root, cuda=cuda), read(root) or {}
    # The kernel's log forgets lines, but a fault lasts until the machine boots.
    log = {
        name: sorted({*facts[name], *map(tuple, earlier.get("log", {}).get(name, ()))})
        for name in KEPT
    }
    facts |= log
    # What copies showed holds until there are others; one that hung may only have been too slow.
    for gpu in facts["gpus"]:
        awake = earlier.get("awake", {}).get(gpu["bus"], {})
        gpu["awake"] = {} if "error" in awake else awake
    expected = settings["types"].get(facts["type"])

    def judged() -> State:
        results = findings.judge(facts, expected)
        state = {
            "at": time.clock_gettime(time.CLOCK_BOOTTIME),
            "seconds": time.monotonic() - began,
            "type": facts["type"],
            "findings": list(map(vars, results)),
            "told": [],
            "replaced": False,
            "log": log,
            "awake": {gpu["bus"]: gpu["awake"] for gpu in facts["gpus"] if gpu["awake"]},
            "again": call_s < PATIENT_S and findings.unanswered(facts),
        }
        write(root, state)
        return state

    state = judged()
    can_wake = not facts["cuda_error"] and (cuda or findings.is_narrow(facts, expected))
    # Copies would disturb a program that uses the GPUs, and a user does not see others' programs.
    if can_wake and may_tell(root) and not any(jobs.users_of_cuda(root)):
        link = (expected["pcie_generation"], expected["pcie_width"]) if expected else (0, 0)
        gpu_facts.wake(facts["gpus"], link)
        state = judged()
    return state


def words(state: State) -> str:
    """Return a line for each finding."""
    return "\n".join(Finding(**row).text for row in state["findings"])


def read(root: Path) -> State | None:
    """Return the last look since boot, or None if there was none."""
    path = root / STATE
    if not path.exists():
        return None
    state: State = json.loads(path.read_text(encoding="utf-8"))
    return state


def may_tell(root: Path) -> bool:
    """Return whether this user may write down a look."""
    folder = next(path for path in (root / STATE).parents if path.exists())
    return os.access(folder, os.W_OK)


def write(root: Path, state: State) -> None:
    """Write the state for `golden-health status`, and for logins if something is wrong."""
    if not may_tell(root):
        return
    put(root / STATE, json.dumps(state))
    say(root, words(state), *state["told"])


def say(root: Path, said: str, *told: str) -> None:
    """Tell logins what is wrong and what follows, or nothing if `said` is empty."""
    lines = ("golden-health found on this machine:", said, *told)
    put(root / LOGIN, "\n".join(lines) + "\n" if said else "")


def put(path: Path, text: str) -> None:
    """Write a file atomically, readable to all, or remove it if there is no text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.chmod(0o644)
    part.replace(path)
    if not text:
        path.unlink()


def persistently(tell: Callable[[], None]) -> str:
    """Tell AWS something, and again if it fails. Return "", or why AWS never took it."""
    failure = ""
    for seconds in TRIES_S:
        time.sleep(seconds)
        try:
            tell()
        except AccountError as error:
            failure = str(error)
            if error.never:
                break
        else:
            return ""
    print(failure, flush=True)
    return failure


def publish(state: State) -> None:
    """Publish the number of findings as a metric, and their words as a tag of the instance."""
    connection, minute = account.connect(), Minute()
    dimensions = dict(connection.instance.dimensions)
    if group := connection.group():
        dimensions[metrics.GROUP] = group
    metrics.add(minute, iter([Figure(METRIC, float(len(state["findings"])))]))
    connection.put(metrics.data(minute, time.time(), dimensions))
    connection.tag(TAG, (words(state).replace("\n", " / ") or "healthy")[:TAG_LENGTH])


def wait_for_jobs(root: Path, state: State) -> bool:
    """Wait until nobody works here. Return whether there was somebody."""
    watch, reported_job = jobs.Watch(root), ""
    while not watch.is_quiet():
        if watch.quiet.job != reported_job:
            reported_job = watch.quiet.job
            write(root, state | {"told": [f"not replaced while a job runs: {reported_job}"]})
    return bool(reported_job)


def replace() -> None:
    """Tell the instance's group that the instance is broken. Raises AccountError if it is in no
    group."""
    connection = account.connect()
    if not connection.group():
        raise AccountError("not replaced: the instance is in no Auto Scaling group", never=True)
    connection.fail()
