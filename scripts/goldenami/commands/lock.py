"""Commands on definitions and locks, which say what an image consists of."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from goldenami.aws import session
from goldenami.commands import OptionalImage, Strict, Wait, lead_to
from goldenami.commands.checkout import IMAGES, Checkout
from goldenami.core.errors import BadInput, ExitCode, GoldenError, together
from goldenami.image.bake import bake_inputs
from goldenami.image.lock import lint, opening, resolve
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.image.lock.opening import LockInputs
from goldenami.image.scaffold import templates
from goldenami.local.host import workspace
from goldenami.model import program_files
from goldenami.model.definitions import definition_file, inheritance
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.roles import role_order

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="a new one, or one of your repository")
]
RoleName = Annotated[str, typer.Argument(metavar="NAME", help="as its variables begin")]
Relock = Annotated[
    bool, typer.Option("--relock", help="make a new lock where upstream deleted a file")
]


def cmd_init(_: Checkout, folder: Folder) -> int:
    """Write a repository of your own images, or a folder of one that you have: a definition that
    bakes, Makefile, CI. Nothing is overwritten."""
    for path, lines in templates.write_repository(folder).items():
        print(f"{path} stays" + (": it has to have" if lines else ""), *lines, sep="\n  ")
    print(f"next: cd {shlex.quote(str(folder))} && make bake", file=sys.stderr, flush=True)
    return 0


def cmd_new_role(checkout: Checkout, name: RoleName) -> int:
    """Write a role of your own to start from, with its check and Molecule scenario."""
    for folder in templates.write_role(checkout.root, name):
        print(f"{folder}/")
    print(
        f"next: write `{name}:` below `roles:` of a definition in packer/images/",
        file=sys.stderr,
        flush=True,
    )
    return 0


def cmd_check(
    checkout: Checkout,
    image: OptionalImage = None,
    *,
    strict: Strict = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="show each value with the file that has it; no check")
    ] = False,
) -> int:
    """Check definitions and committed locks, and that the parts of each lock fit; resolve
    nothing."""
    if explain:
        for path in checkout.paths(image):
            print(*inheritance.explained(inheritance.load(path)), sep="\n")
        return 0
    error_count, bad_inputs = 0, list[BadInput]()
    names = {*role_order.known(checkout.root), *checkout.images}
    for path in program_files.idle_checks(checkout.root, names):
        problem = f"{path}: nothing runs these checks: no role or image is named `{path.stem}`"
        bad_inputs.append(BadInput(problem, hint="name the folder as a role or as an image"))
    for path in checkout.paths(image):
        try:
            error_count += _check(
                checkout,
                definition_file.load(checkout.root, path, session.known_regions()),
                strict=strict,
            )
        # Collected, so that the errors of all definitions are shown.
        except BadInput as error:
            bad_inputs.append(error)
    if bad_inputs:
        raise together(bad_inputs, checkout.root / IMAGES)
    if error_count:
        return ExitCode.BAD_INPUT
    return 0


def _check(checkout: Checkout, definition: Definition, *, strict: bool) -> int:
    if not lockfile.path_of(checkout.root, definition.image).exists():
        print(f"{definition.image}: no lock: {_how_to_lock(checkout, definition)}")
        return 0
    lock, digest = checkout.lock(definition.image)
    lockfile.check_fresh(checkout.root, lock, definition)
    print(f"{definition.image}: build {digest[: lockfile.ID_LENGTH]}")
    findings = lint.check(lock, checkout.root)
    for finding in findings:
        print(f"  {finding.severity.value}: {finding.message} [{finding.rule}]")
    return sum(strict or finding.severity is lint.Severity.ERROR for finding in findings)


def _how_to_lock(checkout: Checkout, definition: Definition) -> str:
    archives = " and ".join(
        source.archive for source in opening.sources_of(checkout.root, definition)
    )
    return (
        f"`make lock IMAGE={definition.image}` makes it, "
        f"where the archives {archives} can be reached"
    )


def cmd_lock(
    checkout: Checkout,
    image: OptionalImage = None,
    *,
    stale: Annotated[
        bool, typer.Option("--stale", help="IMAGE, else all, where the lock is stale or damaged")
    ] = False,
    wait: Wait = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="show the choices of the existing lock")
    ] = False,
) -> int:
    """Resolve the definition to exact files and prove that the driver compiles.

    --stale goes on after an image that fails. It ends with the exit code of the first one.
    """
    if stale:
        return _lock_stale(checkout, image, wait=wait)
    if image is None:
        raise BadInput("there is no IMAGE", hint="name one, or lock all that are stale by --stale")
    definition = checkout.definition(image)
    if explain:
        _explain(checkout.lock(image)[0])
        return 0
    with workspace.image_lock(checkout.root, image, wait=wait):
        make_lock(checkout, definition)
    lead_to("bake", image)
    return 0


def _lock_stale(checkout: Checkout, image: str | None, *, wait: bool) -> int:
    failures = dict[str, GoldenError]()
    for name in [image] if image else checkout.locked:
        try:
            definition = checkout.definition(name)
            try:
                lockfile.check_fresh(checkout.root, checkout.lock(name)[0], definition)
            except BadInput as stale:
                print(stale.message, flush=True)
                with workspace.image_lock(checkout.root, name, wait=wait):
                    make_lock(checkout, definition)
        except GoldenError as error:
            failures[name] = error
    for name, failure in failures.items():
        print(f"no new lock of {name}: {failure.message}", file=sys.stderr)
    if failures:
        raise next(iter(failures.values()))
    return 0


def _explain(lock: Lock) -> None:
    for choice in lock.choices:
        print(f"{choice.component}: {choice.taken} ({choice.why})")
        for entry in choice.passed_over:
            print(f"  passed over {entry.what}: {entry.reason}")


def make_lock(
    checkout: Checkout,
    definition: Definition,
    constraints: LockConstraints | None = None,
) -> tuple[Lock, str]:
    """Make a new lock; return it with its SHA-256. Without `constraints`, `lint`'s findings are
    printed, too."""
    image, progress = definition.image, checkout.progress("lock", definition.image)
    inputs = LockInputs(
        checkout.root,
        definition,
        checkout.store,
        progress,
        checkout.log(image, "lock"),
        constraints or LockConstraints(),
    )
    lock, digest = resolve.run(inputs)
    progress.remember()
    if constraints is None:
        for finding in lint.check(lock, checkout.root):
            progress.say(f"{finding.severity.value}: {finding.message}")
    progress.say(
        f"build {digest[: lockfile.ID_LENGTH]}: "
        f"{lockfile.path_of(checkout.root, image).relative_to(checkout.root)}"
    )
    return lock, digest


def fetched(checkout: Checkout, image: str, *, relock: bool) -> tuple[Lock, str]:
    """Return the lock with its files in the store. `relock` makes a new lock if upstream deleted a
    file."""
    definition = checkout.definition(image)

    def read() -> tuple[Lock, str]:
        return lint.committed(checkout.root, definition)

    def make() -> tuple[Lock, str]:
        return make_lock(checkout, definition)

    if relock and not lockfile.path_of(checkout.root, image).exists():
        return make()
    return bake_inputs.fetched(
        checkout.root,
        read,
        checkout.store,
        checkout.progress("bake", image),
        make if relock else None,
    )
