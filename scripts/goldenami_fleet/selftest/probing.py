"""The probes as parts of the steps, and the removal of all that a run made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from goldenami.aws.contract import CONTRACT
from goldenami.aws.session import translate
from goldenami.release.retire import sweep

from goldenami_fleet.selftest.probes.ground import Ground, Probe
from goldenami_fleet.selftest.probes.probes import PROBES
from goldenami_fleet.selftest.run import SelftestRun


def parts(step: str, ground: Ground) -> Iterator[tuple[str, Callable[[SelftestRun], None]]]:
    """The probes of a step, each with its label."""
    for probe in PROBES:
        if CONTRACT[probe.rule].step == step:
            yield f"{step}/{probe.rule}", _asked(probe, ground)


def _asked(probe: Probe, ground: Ground) -> Callable[[SelftestRun], None]:
    def ask(run: SelftestRun) -> None:
        run.expect(probe.rule, probe.expects, probe.run(ground))

    return ask


def remove_all(run: SelftestRun, ground: Ground) -> list[str]:
    """Remove what this run and ended ones made in its regions. Return what is left, by listing."""
    with run.progress.step("sweep", "all that was made is removed"):
        _told(run, ground.close)
        prepared = sweep.of_selftest(run.account, list(run.regions))
        print("\n".join(sweep.lines(prepared.plan)), flush=True)
        _told(run, partial(sweep.execute, run.account, prepared))
        after = sweep.left_of_selftest(run.account, list(run.regions))
    print("\n".join(sweep.proof_lines(after.plan)), flush=True)
    left = [
        f"{region}: {item.kind} {item.id}"
        for region, items in after.plan.regions.items()
        for item in items
    ]
    return left + [f"{region}: {why}" for region, why in after.plan.unreachable.items()]


def _told(run: SelftestRun, remove: Callable[[], object]) -> None:
    """Remove something; say an error, after which the rest is removed all the same."""
    try:
        remove()
    except Exception as error:
        ours = translate(error, run.home)
        run.progress.say(f"not everything was removed: {ours.message} ({ours.hint})")
