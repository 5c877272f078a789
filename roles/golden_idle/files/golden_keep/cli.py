"""The command `golden-keep`: how safe your files are, why not, and how they come back."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from golden_idle.settings import WrongSettings

from golden_keep import run, state
from golden_keep.copy import Round
from golden_keep.folders import Folder, folders
from golden_keep.restore import Restore
from golden_keep.state import KeepError, now

OK, WRONG, UNSAFE = 0, 2, 3
_ADVICE = {
    "AccessDenied": "the machine's role may not do this: docs/keep.md names the rights, of the KMS "
    "key, too",
    "NoSuchBucket": "the setting `keep` names a bucket that is not there: `golden-idle check`",
    "NoCredentialsError": "the machine has no role: name an instance profile when it is launched",
    "EndpointConnectionError": "the bucket cannot be reached: `curl -I https://s3.amazonaws.com`",
    "SlowDown": "the bucket is busy; the next round goes on",
}
"""What to do, by the word that a trouble begins with."""


def main(argv: list[str] | None = None) -> int:
    """Run the command. The exit status is 0: done, 2: a setting is wrong or missing, or there is no
    folder, 3: not all is safe."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
    except (WrongSettings, KeepError) as error:
        print(f"golden-keep: error: {error}", file=sys.stderr)
        status = WRONG
    if arguments.command is _copy:
        sys.stdout.flush()
        os._exit(status)  # a request that hangs keeps no end waiting
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="golden-keep", description=__doc__.partition(": ")[2])
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.set_defaults(command=function)
        return subparser

    status = command("status", _status, "say what is safe, and what an end now would lose")
    status.add_argument("--json", action="store_true", help="as JSON")
    command("why", _why, "say why something is not safe, and what to do")
    restore = command("restore", _restore, "bring back what the bucket has of you")
    restore.add_argument(
        "--wait", type=float, default=0, metavar="S", help="for the bucket, seconds"
    )
    restore.add_argument(
        "--once", action="store_true", help="since the machine started, as that unit does"
    )
    command("copy", _copy, "copy what is not safe, as the unit golden-keep@UID does")
    job = command("run", _run, "run a command that is told of the machine's end by SIGTERM")
    job.add_argument("words", metavar="COMMAND", nargs="+", help="after `--`")
    command("place", _place, "tell users where files are kept, as that unit does")
    return parser


def _folder(arguments: argparse.Namespace) -> Folder:
    for folder in folders(arguments.root):
        if folder.uid == os.getuid():
            return folder
    raise KeepError("you have no folder that is kept: `mkdir ~/keep`")


def _copy(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments)
    runtime = state.status_file(arguments.root, folder.uid).parent
    if not runtime.exists():
        raise KeepError(f"{runtime} is missing: `sudo systemctl start golden-keep@{folder.uid}`")
    with state.alone(runtime / "lock"):
        this_round = Round(arguments.root, folder)
        this_round.run()
    return UNSAFE if this_round.waiting else OK


def _restore(arguments: argparse.Namespace) -> int:
    restored = _restored(arguments.root)
    # A machine that ends has no time for it.
    if arguments.once and (restored.exists() or state.end(arguments.root)):
        return OK
    until = now() + arguments.wait
    while True:
        try:
            folder = _folder(arguments)
            with state.alone(state.folder_of_state(arguments.root, folder) / "restore.lock"):
                restore = Restore(arguments.root, folder, lambda text: print(text, flush=True))
                came = restore.run()
            break
        except KeepError as error:
            if now() >= until:
                raise
            print(f"golden-keep: {error}; it waits", file=sys.stderr)
            time.sleep(min(5, max(0, until - now())))
    said = [*restore.lines, f"restored: {came} files"]
    print("\n".join(said))
    if arguments.once:
        restored.write_text("\n".join(said), encoding="utf-8")
    return OK


def _restored(root: Path) -> Path:
    """Return the file of what a restore since the machine started said to its user."""
    return state.status_file(root, os.getuid()).with_name("restored")


def _place(arguments: argparse.Namespace) -> int:
    state.publish(arguments.root)
    return OK


def _run(arguments: argparse.Namespace) -> int:
    return run.run(arguments.root, arguments.words)


def _last(arguments: argparse.Namespace) -> dict[str, Any]:
    folder = _folder(arguments)
    state.place(arguments.root, folder)
    if last := state.read_status(arguments.root, folder.uid):
        return last
    raise KeepError(f"no copy ran yet: `sudo systemctl start golden-keep@{folder.uid}`")


def _status(arguments: argparse.Namespace) -> int:
    last = _last(arguments)
    if arguments.json:
        print(json.dumps(last, sort_keys=True))
        return UNSAFE if last["waiting_files"] else OK
    print(f"safe: {last['safe_files']} files, {_size(last['safe_bytes'])}, in {last['place']}")
    if last["safe_since"] is not None:
        print(f"all was safe {_ago(last['safe_since'])}; looked {_ago(last['at'])}")
    print(f"an end now would lose {last['waiting_files']} files, {_size(last['waiting_bytes'])}")
    if last["rate"]:
        seconds = last["waiting_bytes"] / last["rate"]
        print(f"{_size(last['rate'])} a second: {seconds:.0f} s to copy them")
    _print_paths(last)
    if (restored := _restored(arguments.root)).exists():
        print(restored.read_text(encoding="utf-8"))
    return UNSAFE if last["waiting_files"] else OK


def _print_paths(last: dict[str, Any]) -> None:
    for kind, paths in (
        ("not yet", last["waiting"]),
        ("left out", last["left_out"]),
        ("of two machines, both kept", last["beside"]),
    ):
        for path in paths:
            print(f"{kind}: {path}")
    if last["trouble"]:
        print(f"trouble: {last['trouble']}; `golden-keep why`")


def _why(arguments: argparse.Namespace) -> int:
    last = _last(arguments)
    if trouble := last["trouble"]:
        advice = _ADVICE.get(trouble.partition(":")[0], "the next round tries again")
        print(f"not safe: {trouble}\n{advice}")
    elif last["waiting_files"]:
        print(
            f"not safe: {last['waiting_files']} files are new, or changed while they were read; "
            "the next round copies them"
        )
    else:
        print(f"safe: all files were copied {_ago(last['safe_since'])}")
    _print_paths({**last, "trouble": ""})
    return UNSAFE if last["waiting_files"] else OK


def _size(number: float) -> str:
    """Return bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"


def _ago(boottime: float) -> str:
    seconds = now() - boottime
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} minutes ago"
