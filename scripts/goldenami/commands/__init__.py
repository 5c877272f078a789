"""The commands: a function each. Its parameters are its arguments and options; those of a command
with many are the fields of a dataclass."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import BadInput, ExitCode, GoldenError
from goldenami.core.records import Record
from goldenami.core.terminal import command_name
from goldenami.model.definitions import definition_file


def _images(context: typer.Context, incomplete: str) -> Iterator[str]:
    root = Checkout((context.parent or context).params["root"]).root
    return (path.stem for path in sorted((root / "packer/images").glob(f"{incomplete}*.yml")))


def _known(context: typer.Context, image: str | None) -> str | None:
    if image is not None and not context.resilient_parsing:  # which a shell's completion is
        definition_file.path_of(Checkout(context.obj).root, image)
    return image


def _known_or_ami(context: typer.Context, target: str) -> str:
    return target if target.startswith("ami-") else str(_known(context, target))


_IMAGE = typer.Argument(
    metavar="IMAGE", help="name of packer/images/IMAGE.yml", autocompletion=_images, callback=_known
)

ImageName = Annotated[str, _IMAGE]
"""The image that a command is about."""
OptionalImage = Annotated[str | None, _IMAGE]
"""The only image that a command is about, else all."""
AmiOrImage = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE|AMI",
        help="an image, whose newest build here is held to its copies; or an AMI of the account",
        autocompletion=_images,
        callback=_known_or_ami,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="wait for another run on the same image")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Strict = Annotated[bool, typer.Option("--strict", help="warnings count as errors")]
BuildId = Annotated[
    str | None, typer.Option("--build", metavar="ID", help="this build instead of the newest")
]
Regions = Annotated[
    list[str],
    typer.Option(
        "--region",
        metavar="REGION",
        help="only this region (may be given again)",
        default_factory=list,
        show_default=False,
    ),
]

Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="another parameter of the template (may be given again)",
        default_factory=list,
        show_default=False,
    ),
]


def print_record(record: Record, lines: Iterable[str], as_json: bool) -> None:
    """The record as JSON, or its lines."""
    text = "\n".join(lines) + "\n"
    if as_json:
        text = records.canonical(record.model_dump(mode="json"))
    print(text, end="", flush=True)


def raise_failed(failed: dict[str, GoldenError], what: str) -> None:
    """One error for the regions that failed, if any."""
    from goldenami.aws import regions  # noqa: PLC0415 - botocore, with which not each command starts

    if failed:
        raise regions.combined_error(failed, what, "then run again", {})


def run_url() -> str:
    """The address of the pipeline's run on GitLab or GitHub; empty elsewhere."""
    if gitlab := os.environ.get("CI_PIPELINE_URL"):
        return gitlab
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    parts = [os.environ.get(name, "") for name in names]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def lead_to(command: str, image: str) -> None:
    """Print which command is next."""
    print(f"next: {command_name.program()} {command} {image}", file=sys.stderr, flush=True)


def _lead_on(words: list[str]) -> None:
    while words[0] == "--root":  # the program names it where it has to
        words = words[2:]
    kept = [{"plan": "apply"}.get(word, word) for word in words if word != "--dry-run"]
    print(f"next: {command_name.program()} {shlex.join(kept)}", file=sys.stderr, flush=True)


def settings_of(words: list[str]) -> dict[str, str]:
    """Values by name of `--set NAME=VALUE`; BadInput for another form, or for a name twice."""
    found = dict[str, str]()
    for name, equals, value in (text.partition("=") for text in words):
        if not equals or name in found:
            raise BadInput(
                f"`--set {name}{equals}{value}` "
                + ("comes beside another one" if equals else "is not NAME=VALUE"),
                hint="for instance --set Email=me@example.org --set Subnets=A,B",
            )
        found[name] = value
    return found


def with_checkout(run: Callable[..., int]) -> Callable[..., int]:
    """`run` as Typer calls it: its first parameter, the checkout, comes from the context, and a
    dataclass is made of an option for each of its fields."""
    signature = inspect.signature(run, eval_str=True)
    first, *others = signature.parameters.values()
    flat = [option for other in others for option in _options(other)]

    def call(context: typer.Context, **options: Any) -> int:
        asked = {other.name: _value(other, options) for other in others}
        code = run(Checkout(context.obj), **asked)
        is_plan = options.get("dry_run") or options.get("action") == "plan"
        if is_plan and code == ExitCode.OK and not options.get("as_json"):
            _lead_on(context.meta[command_name.WORDS])
        return code

    call.__doc__ = run.__doc__
    call.__annotations__ = {
        "context": typer.Context,
        **{option.name: option.annotation for option in flat},
    }
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first.replace(name="context", annotation=typer.Context), *flat]
    )
    return call


def _options(parameter: Parameter) -> list[Parameter]:
    """What Typer is to see of a command's parameter: the fields of a dataclass, else itself."""
    asked = parameter.annotation
    if not is_dataclass(asked):
        return [parameter]
    annotations = get_type_hints(asked, include_extras=True)
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            # Where a field has a factory, so has its option, which wants no default beside it.
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=annotations[field.name],
        )
        for field in fields(asked)
    ]


def _value(parameter: Parameter, options: dict[str, Any]) -> Any:
    asked = parameter.annotation
    if not is_dataclass(parameter.annotation):
        return options[parameter.name]
    return asked(**{field.name: options[field.name] for field in fields(asked)})
