"""The command of a first evening on AWS: the whole life of a small image in an account, each step
held to what we take AWS to do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import goldenami
import typer
from goldenami import cli
from goldenami.aws import tags
from goldenami.aws.pricing import price_list
from goldenami.aws.recording import Recorder
from goldenami.aws.session import check_regions, home_region, translated
from goldenami.commands import DryRun, Regions
from goldenami.commands.checkout import Checkout
from goldenami.core import clock, records, shell
from goldenami.core.errors import BadInput, Busy, NotVerified, StageFailed
from goldenami.core.terminal import command_name
from goldenami.local.host import workspace

from goldenami_fleet.selftest import page, plan, preflight, probing, selftest_image
from goldenami_fleet.selftest.life import LIFE
from goldenami_fleet.selftest.probes.ground import Ground
from goldenami_fleet.selftest.run import IMAGE, LIFETIME, SelftestRun
from goldenami_fleet.selftest.selftest_records import (
    SELFTEST_FILE,
    SELFTEST_PAGE,
    Deviation,
    SelftestRecord,
)

FOLDER = "build/selftest"
_HERE = "http://127.0.0.1:"
SECOND_REGIONS = ("us-west-2", "us-east-1")
"""The second region of a run that names none: the first of them that is not its own."""


@dataclass(frozen=True, kw_only=True)
class SelftestOptions:
    """The options of `golden selftest`."""

    dry_run: DryRun = False
    most_usd: Annotated[
        float,
        typer.Option("--max-usd", metavar="USD", min=0.01, help="what all of it may cost"),
    ] = 2.0
    region: Regions = field(default_factory=list)
    gpu: Annotated[
        bool, typer.Option("--gpu", help="also the checks of a GPU, on one Spot machine")
    ] = False
    emulated: Annotated[
        bool, typer.Option("--emulated", help="against EC2 on this machine; needs no account")
    ] = False
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="a selftest.json: on the emulator, with AWS's answers where AWS differed",
        ),
    ] = None


@translated()
def cmd_selftest(checkout: Checkout, options: SelftestOptions) -> int:
    """Show in your account, for two dollars, that all of this works there: a small image is
    published, booted, launched, refreshed, rolled back and retired in two regions, and nothing of
    it stays.

    What AWS does otherwise than we take it to do is named, with the request and the answer, in
    build/selftest/selftest.json and a page beside it. `--dry-run` costs nothing: it prints the
    plan, and what of the account would stop it.
    """
    recorded: SelftestRecord | None = None
    if options.replay:
        recorded = records.read(options.replay, SelftestRecord)
    with contextlib.ExitStack() as stack:
        emulated = options.emulated or recorded is not None
        if emulated:
            stack.enter_context(_emulator())
        regions = _regions(options, recorded)
        return _run(checkout, options, regions, recorded, emulated=emulated)


def _regions(options: SelftestOptions, recorded: SelftestRecord | None) -> tuple[str, ...]:
    if recorded:
        return recorded.regions
    regions = options.region or [home_region()]
    if len(regions) == 1:
        regions += [next(region for region in SECOND_REGIONS if region != regions[0])]
    if len(set(regions)) != 2:
        raise BadInput(
            f"a run is in two regions, not in {', '.join(regions)}",
            hint="give --region twice, the home first; or once",
        )
    check_regions(regions)
    return tuple(regions)


@contextlib.contextmanager
def _emulator() -> Iterator[None]:
    """Run the emulator, and let nothing but it be meant, whatever account this shell is set up for.
    One that this shell is set up for is taken."""
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith(_HERE):
        yield
        return
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with _started([sys.executable, "-m", "ec2_emulator", "--port", "0"]) as lines:
        for name in before:
            del os.environ[name]
        os.environ |= {
            **dict(pair.split("=", 1) for line in lines for pair in line.split()[1:]),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        try:
            yield
        finally:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ.update(before)


@contextlib.contextmanager
def _started(argv: list[str]) -> Iterator[list[str]]:
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **shell.python_env()}
    ) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline(), process.stdout.readline()]
            if not lines[1]:
                raise StageFailed(
                    "the emulator did not start",
                    hint="`make setup` or `pip install 'goldenami[emulator]'` installs it",
                )
            yield lines
        finally:
            process.terminate()


def _run(
    checkout: Checkout,
    options: SelftestOptions,
    regions: tuple[str, ...],
    recorded: SelftestRecord | None,
    *,
    emulated: bool,
) -> int:
    folder = checkout.root / FOLDER
    steps = plan.asked(gpu=options.gpu)
    life, progress = Checkout(folder), checkout.progress("selftest", IMAGE)
    own_tags = tags.of_selftest(LIFETIME)
    with workspace.image_lock(checkout.root, "selftest"), contextlib.ExitStack() as stack:
        contents = [
            selftest_image.definition(regions, own_tags, number, gpu=options.gpu)
            for number in (0, 1)
        ]
        selftest_image.write(folder, contents[0])
        account = life.account(life.definition(IMAGE))
        account.number(regions[0])  # before anything is baked: are these credentials good?
        prices = price_list.ask(account, regions[0])
        gib = float(contents[0]["disk_size_gib"])
        print("\n".join(plan.lines(steps, prices, gib)), flush=True)
        if options.dry_run:
            types = {kind for step in steps for kind in step.launches}
            findings = preflight.look(account, regions, sorted(types))
            print("\n".join(preflight.lines(findings)), flush=True)
            return 0
        for region in regions:
            # `golden sweep` looks there for what a killed run left.
            workspace.note_region(checkout.root, folder.name, region)
        golden = partial(_golden, folder)
        builds = selftest_image.bake(folder, contents, golden)
        selftest_image.write(folder, contents[0])
        recorder = Recorder()
        if recorded:
            recorder = Recorder.replaying(
                deviation.call for deviation in recorded.deviations if deviation.call
            )
        stack.enter_context(recorder.active())
        run = SelftestRun(
            account=life.account(life.definition(IMAGE)),
            regions=regions,
            root=folder,
            builds=tuple(builds),
            work=stack.enter_context(workspace.scratch_in(folder / "build" / IMAGE, "selftest")),
            golden_command=golden,
            recorder=recorder,
            prices=prices,
            most_usd=options.most_usd,
            tags=own_tags,
            progress=progress,
            gib=gib,
            emulated=emulated,
            gpu=options.gpu,
        )
        started_at = clock.stamp()
        try:
            _live(run, steps)
        except BaseException:
            if run.results:  # an interrupt leaves what was seen
                _write(folder, _record(run, started_at))
            raise
    record = _record(run, started_at)
    _write(folder, record)
    progress.say(record.headline)
    print(f"next: open {folder / SELFTEST_PAGE}", file=sys.stderr, flush=True)
    if recorded:
        return _compare(recorded, record)
    if not record.is_whole:
        raise NotVerified(
            record.headline,
            hint=f"{folder / SELFTEST_FILE} has each request and answer, without account numbers: "
            "send it as an issue",
        )
    return 0


def _record(run: SelftestRun, started_at: str) -> SelftestRecord:
    return SelftestRecord(
        version=goldenami.__version__,
        started_at=started_at,
        emulated=run.emulated,
        regions=run.regions,
        usd=round(run.spent_usd, 4),
        most_usd=run.most_usd,
        steps=tuple(run.results),
        deviations=tuple(run.deviations),
        left=tuple(run.left),
    )


def _write(folder: Path, record: SelftestRecord) -> None:
    records.write(folder / SELFTEST_FILE, record)
    page.write(folder / SELFTEST_PAGE, record)


def _live(run: SelftestRun, steps: list[plan.Step]) -> None:
    """Take the steps, and remove all that they made, whatever happens."""
    ground = Ground(run.account, run.home, run.name)
    try:
        # What a killed run left would be in the way: it has the same names.
        if in_use := probing.remove_all(run, ground):
            raise Busy(
                f"another self-test is at work in this account: {in_use[0]}",
                hint="wait for it; `golden sweep --dry-run` says whose it is",
            )
        for step in steps:
            parts: list[tuple[str, Callable[[SelftestRun], None]]] = []
            if step.name in LIFE:
                parts.append((step.name, LIFE[step.name]))
            parts += probing.parts(step.name, ground)
            run.take(step, parts)
    finally:
        if run.results:
            run.give_up(steps[len(run.results) :], "the run was interrupted")
        run.left = ["unknown: `golden sweep` says what"]
        run.left = probing.remove_all(run, ground)


def _golden(folder: Path, words: list[str]) -> int:
    """Run a command of `golden` in the repository `folder`, as if it was typed there."""
    typed = ["--root", str(folder), *words]
    grammar = cli.parser()
    with grammar.make_context("golden", list(typed)) as context:
        context.meta[command_name.WORDS] = typed
        code: Any = grammar.invoke(context)
    return int(code)


def _compare(recorded: SelftestRecord, record: SelftestRecord) -> int:
    """Say which deviations of a recording are there again."""

    def names(deviations: tuple[Deviation, ...]) -> set[str]:
        return {deviation.name for deviation in deviations}

    missing = sorted(names(recorded.deviations) - names(record.deviations))
    again = len(recorded.deviations) - len(missing)
    print(f"{again} of {len(recorded.deviations)} deviations are there again", flush=True)
    if missing:
        raise NotVerified(
            f"not replayed: {', '.join(missing)}",
            hint="they come of more than the recorded calls: try them in an account",
        )
    return 0
