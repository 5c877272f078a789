"""The command `golden-idle`: what the agent thinks, a hold against it, a check of its file, and the
agent itself."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from golden_idle import holds, keeper, settings
from golden_idle.agent import STATE, Agent
from golden_idle.decide import MISSING_S
from golden_idle.holds import WrongHold
from golden_idle.settings import WrongSettings

OK, WRONG, NOT_RUNNING = 0, 2, 3


class NotRunning(Exception):
    """The agent does not run, or has stopped taking samples."""


def main(argv: list[str] | None = None) -> int:
    """Run the command. The exit status is 0: done, 2: an argument or a setting is wrong, 3: the
    agent does not run."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (WrongSettings, WrongHold, NotRunning) as error:
        print(f"golden-idle: error: {error}", file=sys.stderr)
        return NOT_RUNNING if isinstance(error, NotRunning) else WRONG
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="golden-idle", description=__doc__.split(":")[0])
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.set_defaults(command=function)
        return subparser

    command("why", _why, "say why the machine counts as busy or idle")
    status = command("status", _status, "say all that the agent knows")
    status.add_argument("--json", action="store_true", help="as JSON")
    hold = command("hold", _hold, "keep the machine, whatever it does, for a time")
    hold.add_argument("time", metavar="TIME", help="30m, 4h or 2d")
    hold.add_argument("reason", metavar="REASON", nargs="+")
    command("release", _release, "take your own holds back")
    check = command("check", _check, "check the settings: of this machine, or of an image's FILE")
    check.add_argument("file", metavar="FILE", nargs="?", type=Path)
    run = command("run", _run, "run the agent, as its service does")
    run.add_argument(
        "--speed", type=float, default=1.0, metavar="N", help="a rehearsal, N times as fast"
    )
    command("end", _last_copies, "copy what lies in ~/keep, as a shutdown does")
    return parser


def _state(root: Path) -> dict[str, Any]:
    """Return the agent's state. Raises NotRunning if there is none, or an old one."""
    try:
        state: dict[str, Any] = json.loads((root / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise NotRunning("the agent does not run: `systemctl status golden-idle`") from None
    # A state that is too old is that of an agent that hangs or was stopped.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - state["at"]
    if age > MISSING_S:
        raise NotRunning(
            f"the agent has not looked for {age:.0f} s: `systemctl status golden-idle`"
        )
    return state


def _why(arguments: argparse.Namespace) -> None:
    state = _state(arguments.root)
    print(f"{'idle' if state['idle'] else 'busy'}: {state['reason']}")


def _status(arguments: argparse.Namespace) -> None:
    state = _state(arguments.root)
    if arguments.json:
        print(json.dumps(state, sort_keys=True))
        return
    _why(arguments)
    print(f"quiet for {state['quiet_s'] / 60:.0f} minutes of {state['window_s'] / 60:.0f}")
    after = ""
    if state["acts_in_s"] is not None:
        after = f", acts in {state['acts_in_s'] / 60:.0f} minutes"
    print(f"action {state['action']}, stage {state['stage']}{after}")
    if state["group"]:
        print(
            f"group {state['group']}, "
            f"{'protected from' if state['protected'] else 'open to'} scale-in"
        )
    for line in filter(None, [state["failure"], *state["trouble"]]):
        print(f"trouble: {line}")
    if state["trouble"]:
        print(f"metrics that wait: {state['waiting_minutes']} minutes")


def _hold(arguments: argparse.Namespace) -> None:
    seconds = holds.duration(arguments.time, _state(arguments.root)["longest_hold_hours"])
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    holds.write(arguments.root / holds.FOLDER, until, " ".join(arguments.reason))
    end = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(time.time() + seconds))
    print(f"held until {end} by {holds.user_name(os.getuid())}; `golden-idle release` ends it")


def _release(arguments: argparse.Namespace) -> None:
    print(f"holds taken back: {holds.release(arguments.root / holds.FOLDER)}")


def _check(arguments: argparse.Namespace) -> None:
    machine_settings = (
        settings.read_image(arguments.file) if arguments.file else settings.load(arguments.root)
    )
    print(f"action {machine_settings.action}, window {machine_settings.window_minutes} minutes")


def _run(arguments: argparse.Namespace) -> None:
    # So written, the condition refuses NaN, too.
    if not arguments.speed >= 1:
        raise WrongSettings("--speed has to be 1 or more")
    Agent(arguments.root, arguments.speed).run()


def _last_copies(arguments: argparse.Namespace) -> None:
    if settings.load(arguments.root).keep:
        keeper.last_copies(arguments.root)
