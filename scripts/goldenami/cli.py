"""The command line: one subcommand a stage. The only place that catches errors and sets exit codes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from goldenami.commands import account, frameworks, hardware, image, life, snapshot, stores, watch
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import ExitCode, GoldenError, space

COMMANDS = (image, frameworks, hardware, stores, account, snapshot, life, watch)
"""Modules of commands, in the order of the help."""
CONTINUED = frozenset({"publish", "promote", "rollback", "retire", "sweep"})
"""Commands that leave in the account what they have done; the same command does the rest."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog="golden", description="Bake, prove, publish and retire golden machine images.")
    commands = top.add_subparsers(required=True, metavar="STAGE")

    def add(name: str, run: Callable[[argparse.Namespace], int], image: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=(run.__doc__ or "").split("\n")[0], description=run.__doc__)
        command.set_defaults(run=run, stage=name)
        if image:
            command.add_argument("image", nargs="?" if image == "?" else None, help="name of packer/images/NAME.yml")
        return command

    for module in COMMANDS:
        module.register(add)
    return top


def _terminate(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    args = parser().parse_args(argv)
    began = time.monotonic()
    try:
        with space(CachePaths.default().root):
            code: int = args.run(args)
        return code
    except GoldenError as error:
        show(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        left = "the same command continues" if args.stage in CONTINUED else "nothing is left behind"
        print(f"golden: interrupted after {time.monotonic() - began:.0f} s; {left}", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERNAL)


def show(error: GoldenError) -> None:
    """Print an error: the tool's last lines, what happened, what to do, where all of it is."""
    if error.tail:
        print("\n".join(f"  | {line}" for line in error.tail.splitlines()), file=sys.stderr)
    print(f"golden: error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"golden: to do: {error.hint}", file=sys.stderr)
    if error.log:
        print(f"golden: log:   {error.log}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
