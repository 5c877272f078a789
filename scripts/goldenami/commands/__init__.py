"""The commands, one function each. Its parameters are the command's arguments and options; if they
are many, they are the fields of one dataclass."""

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


def _complete_image(context: typer.Context, incomplete: str) -> Iterator[str]:
    root = Checkout((context.parent or context).params["root"]).root
    return (path.stem for path in sorted((root / "packer/images").glob(f"{incomplete}*.yml")))


def _checked_image(context: typer.Context, image: str | None) -> str | None:
    # While a shell completes a word (`resilient_parsing`), the image may be half a name.
    if image is not None and not context.resilient_parsing:
        definition_file.path_of(Checkout(context.obj).root, image)
    return image


def _checked_image_or_ami(context: typer.Context, target: str) -> str:
    if target.startswith("ami-"):
        return target
    return str(_checked_image(context, target))


_IMAGE = typer.Argument(
    metavar="IMAGE",
    help="name of packer/images/IMAGE.yml",
    autocompletion=_complete_image,
    callback=_checked_image,
)

ImageName = Annotated[str, _IMAGE]
"""The image that a command works on."""
OptionalImage = Annotated[str | None, _IMAGE]
"""The one image that a command works on, or None for all."""
AmiOrImage = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE|AMI",
        help="an image, whose newest build here is held to its copies; or an AMI of the account",
        autocompletion=_complete_image,
        callback=_checked_image_or_ami,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="wait for another run on the same image")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Strict = Annotated[bool, typer.Option("--strict", help="warnings count as errors")]
BuildId = Annotated[
    str | None, typer.Option("--build", metavar="ID", help="this build instead of the newest")
]
AcceptUntestedGpu = Annotated[
    bool,
    typer.Option(
        "--accept-untested-gpu",
        help="`latest` may take a build that was not tested on a GPU; recorded",
    ),
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
    """Print the record as JSON, or its lines."""
    text = "\n".join(lines) + "\n"
    if as_json:
        text = records.canonical(record.model_dump(mode="json"))
    print(text, end="", flush=True)


def print_plan(lines: Iterable[str]) -> None:
    """Print a plan's lines, its commands as the user types them."""
    print(command_name.as_typed("\n".join(lines)), flush=True)


def raise_failed(failed: dict[str, GoldenError], what: str) -> None:
    """Raise one error for the regions that failed, if any."""
    from goldenami.aws import regions  # noqa: PLC0415 - botocore, with which not each command starts

    if failed:
        raise regions.combined_error(failed, what, "then run again", {})


def run_url() -> str:
    """Return the address of the pipeline's run on GitLab or GitHub, or "" elsewhere."""
    if gitlab := os.environ.get("CI_PIPELINE_URL"):
        return gitlab
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    parts = [os.environ.get(name, "") for name in names]
    if not all(parts):
        return ""
    return "{}/{}/actions/runs/{}".format(*parts)


def lead_to(command: str, image: str) -> None:
    """Print the command to run next."""
    print(f"next: {command_name.program()} {command} {image}", file=sys.stderr, flush=True)


def _lead_past_plan(words: list[str]) -> None:
    # `command_name.program()` has --root already if the next command needs it.
    while words[0] == "--root":
        words = words[2:]
    next_words = [{"plan": "apply"}.get(word, word) for word in words if word != "--dry-run"]
    print(f"next: {command_name.program()} {shlex.join(next_words)}", file=sys.stderr, flush=True)


def settings_of(words: list[str]) -> dict[str, str]:
    """Parse `--set NAME=VALUE` words to values by name. Raises BadInput for another form, or for a
    name that comes twice."""
    values = dict[str, str]()
    for text in words:
        name, equals, value = text.partition("=")
        problem = ""
        if not equals:
            problem = "is not NAME=VALUE"
        elif name in values:
            problem = "comes beside another one"
        if problem:
            raise BadInput(
                f"`--set {text}` {problem}",
                hint="for instance --set Email=me@example.org --set Subnets=A,B",
            )
        values[name] = value
    return values


def with_checkout(run: Callable[..., int]) -> Callable[..., int]:
    """Return `run` as Typer calls it. Its first parameter, the checkout, comes from the context; a
    parameter that is a dataclass becomes one option for each field."""
    signature = inspect.signature(run, eval_str=True)
    checkout_parameter, *own_parameters = signature.parameters.values()
    typer_parameters = list[Parameter]()
    for parameter in own_parameters:
        typer_parameters += _options(parameter)

    def call(context: typer.Context, **options: Any) -> int:
        arguments = {parameter.name: _value(parameter, options) for parameter in own_parameters}
        code = run(Checkout(context.obj), **arguments)
        is_plan = options.get("dry_run") or options.get("action") == "plan"
        if is_plan and code == ExitCode.OK and not options.get("as_json"):
            _lead_past_plan(context.meta[command_name.WORDS])
        return code

    # Typer reads the help, the annotations and the signature of `call`.
    call.__doc__ = run.__doc__
    call.__annotations__ = {
        "context": typer.Context,
        **{option.name: option.annotation for option in typer_parameters},
    }
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            checkout_parameter.replace(name="context", annotation=typer.Context),
            *typer_parameters,
        ]
    )
    return call


def _options(parameter: Parameter) -> list[Parameter]:
    """Return the parameters that Typer sees for a command's parameter: the fields of a dataclass,
    or else the parameter itself."""
    annotation = parameter.annotation
    if not is_dataclass(annotation):
        return [parameter]
    annotations = get_type_hints(annotation, include_extras=True)
    options = list[Parameter]()
    for field in fields(annotation):
        default = field.default
        # A field with a factory has an option with a factory, which takes no default as well.
        if default is MISSING:
            default = Parameter.empty
        option = Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=default,
            annotation=annotations[field.name],
        )
        options.append(option)
    return options


def _value(parameter: Parameter, options: dict[str, Any]) -> Any:
    annotation = parameter.annotation
    if not is_dataclass(parameter.annotation):
        return options[parameter.name]
    return annotation(**{field.name: options[field.name] for field in fields(annotation)})
