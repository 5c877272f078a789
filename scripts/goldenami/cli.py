"""The command line, with one subcommand for each stage. Only this module catches errors and sets
exit codes."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

import goldenami
from goldenami import plugged
from goldenami.core import environment, process
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode, GoldenError, space, with_cause
from goldenami.core.records import NewerRecord
from goldenami.core.terminal import command_name
from goldenami.core.yaml_lines import nearest

CALLED = "Called by pipelines and Molecule"
"""The area of commands that no person types."""
_AREAS: dict[str, dict[str, str]] = {
    "Definitions and locks": {"init": "lock", "new-role": "lock", "check": "lock", "lock": "lock"},
    "Builds on this machine": {
        "bake": "builds.bake",
        "verify": "builds.verify",
        "container": "builds.container",
        "shell": "builds.verify",
        "reproduce": "builds.reproduce",
        "clean": "store",
        "store": "store",
        "cve": "cve",
    },
    "Accounts": {},
    "Published images": {
        "publish": "publish",
        "gpu-test": "gpu_test",
        "promote": "promote",
        "rollback": "promote",
        "release": "release",
        "verify-provenance": "cve",
        "status": "status",
        "retire": "retire",
        "sweep": "retire",
    },
    "Running instances": {},
    "New releases": {"watch": "watch"},
    CALLED: {"images": "watch", "molecule-container": "builds.container"},
}
"""Areas of the help, in its order: in each, goldenami's own commands with their module of
`commands/`. An empty one has commands of another package."""


def _all_areas() -> dict[str, dict[str, str]]:
    tables = {"goldenami.commands": _AREAS}
    tables |= {package.__name__: package.AREAS for package in plugged.PACKAGES}
    areas = dict[str, dict[str, str]]()
    for package, table in tables.items():
        for area, commands in table.items():
            modules = {name: f"{package}.{module}" for name, module in commands.items()}
            areas.setdefault(area, {}).update(modules)
    return areas


AREAS = _all_areas()
"""Areas of the help, in its order: in each, all commands with their module."""
MODULES = {name: module for commands in AREAS.values() for name, module in commands.items()}
CONTINUED = frozenset({"publish", "promote", "release", "rollback", "retire", "sweep"}).union(
    *(package.CONTINUED for package in plugged.PACKAGES)
)
"""Commands that, when interrupted, leave finished steps in the account; running the same command
again does the rest."""
COMPLETION = "_GOLDEN_COMPLETE"
"""Environment variable by which a shell asks for completions; Typer derives it from `golden`."""


class Commands(TyperGroup):
    """All commands. A command's module is imported when it is called; the help imports none."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(MODULES)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand:  # type: ignore[override]
        if cmd_name not in MODULES:
            raise BadInput(
                f"there is no command `{cmd_name}`: {nearest(cmd_name, MODULES)}",
                hint="`golden --help` lists them",
            )
        return TyperCommand(
            cmd_name,
            help=_help_line(cmd_name),
            rich_markup_mode=_markup(),
            rich_help_panel=_area(cmd_name),
        )

    def resolve_command(  # type: ignore[override]
        self,
        ctx: typer.Context,
        args: list[str],
    ) -> tuple[str | None, TyperCommand | None, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, command(name) if name else None, rest

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        for area, names in AREAS.items():
            with formatter.section(area):
                formatter.write_dl([(name, _help_line(name)) for name in names])


@functools.cache
def _functions(module: str) -> dict[str, str]:
    """Return the first paragraph of each function's docstring in `module`."""
    # Read from the source: importing a module takes up to a second, and the help needs them all.
    package, *path = module.split(".")
    folder = Path(str(importlib.import_module(package).__file__)).parent
    text = folder.joinpath(*path).with_suffix(".py").read_text(encoding="utf-8")
    return {
        node.name: " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


def _function(name: str) -> str:
    return f"cmd_{name.replace('-', '_')}"


def _help_line(name: str) -> str:
    return _functions(MODULES[name])[_function(name)]


def _area(name: str) -> str:
    return next(area for area, names in AREAS.items() if name in names)


def command(name: str) -> TyperCommand:
    """Import the module of the command `name`, and return the command."""
    from goldenami.commands import with_checkout  # noqa: PLC0415 - 0.5 s that the help need not wait for

    module = importlib.import_module(MODULES[name])
    app = typer.Typer(add_completion=False, rich_markup_mode=_markup())
    app.command(name)(with_checkout(getattr(module, _function(name))))
    built = typer.main.get_command(app)
    assert isinstance(built, TyperCommand)
    return built


def _markup() -> Any:
    return "rich" if sys.stdout.isatty() else None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"golden {goldenami.__version__}")
        raise typer.Exit


def _top(
    context: typer.Context,
    root: Annotated[
        Path | None,
        typer.Option(
            help="the checkout to work on (default: the one that the working directory is in)"
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="print the version and stop", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Bake, prove, publish and retire golden machine images."""
    _check_environment()
    context.obj = root


def _check_environment() -> None:
    """Raise BadInput for a misspelt variable, which would be ignored silently; only warn
    if it starts like a family of variables, of which another machine may have more."""
    for name in sorted(name for name in os.environ if name.startswith(environment.PREFIX)):
        meant, is_of_family = environment.misspelt(name)
        if meant and not is_of_family:
            raise BadInput(
                f"nothing reads the environment variable {name}; did you mean `{meant}`?",
                hint=f"correct it, or run `unset {name}`",
            )
        if meant:
            print(
                f"golden: warning: the environment has {name}; did you mean `{meant}`?",
                file=sys.stderr,
            )


def parser() -> TyperGroup:
    """Return Typer's group of all commands."""
    app = typer.Typer(
        cls=Commands,
        rich_markup_mode=_markup(),
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def _terminate(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """Print each warning about a newer record once, as one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", NewerRecord)
        warnings.showwarning = lambda message, *_args, **_more: print(
            f"golden: warning: {message}", file=sys.stderr
        )
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    # Files that a build creates get their modes from it: they may not depend on the caller's umask.
    os.umask(0o022)
    signal.signal(signal.SIGTERM, _terminate)
    # nohup ignores SIGHUP for its program: that stays so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    words, grammar, began = list(sys.argv[1:] if argv is None else argv), parser(), time.monotonic()
    if COMPLETION in os.environ:
        with suppress(GoldenError):  # a shell that completes a word cannot show an error
            grammar.main(words, prog_name="golden")
        return int(ExitCode.BAD_INPUT)
    first = 2 if words[:1] == ["--root"] else 0  # scripts/golden puts `--root CHECKOUT` in front
    if words[first : first + 1] in ([], ["help"]):  # gh, docker and cargo take `help`, too
        words = [*words[:first], *words[first + 1 :], "--help"]
    # Where the folder of temporary files cannot be read, most commands need none.
    with suppress(OSError):
        process.remove_left_scratch()
    context: Any = None
    # Completion is set up for the bare name `golden`, so that a shell completes it in any folder.
    sets_up_completion = {"--install-completion", "--show-completion"} & {*words}
    try:
        with (
            space(CachePaths.default().folder),
            _shown_warnings(),
            grammar.make_context(
                "golden" if sets_up_completion else command_name.program(), words
            ) as context,
        ):
            context.meta[command_name.WORDS] = words
            return int(grammar.invoke(context))
    except typer.Exit as ending:  # after --help
        return ending.exit_code
    except (GoldenError, typer.TyperException) as error:
        problem = with_cause(error) if isinstance(error, GoldenError) else _usage(error)
        print_error(problem)
        return int(problem.exit_code)
    except KeyboardInterrupt:
        continues = context is not None and context.invoked_subcommand in CONTINUED
        state_left = "the same command continues" if continues else "nothing is left behind"
        print(
            f"golden: interrupted after {time.monotonic() - began:.0f} s; {state_left}",
            file=sys.stderr,
        )
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Python flushes standard output at its exit, and would fail again on the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERNAL)


def _usage(error: typer.TyperException) -> BadInput:
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else command_name.program()
    return BadInput(message[0].lower() + message[1:], hint=f"`{path} --help` shows what it takes")


def print_error(error: GoldenError) -> None:
    """Print an error: the tool's last lines, what happened, what to do, and the log's path."""
    lines = [
        *(f"  | {line}" for line in error.tail.splitlines()),
        f"golden: error: {error.message}",
    ]
    lines += [f"golden: to do: {error.hint}"] if error.hint else []
    lines += [f"golden: log:   {error.log}"] if error.log else []
    print(command_name.as_typed("\n".join(lines)), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
