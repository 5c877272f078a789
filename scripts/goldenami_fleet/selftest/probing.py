"""The probes as parts of the steps, and the removal of all that a run made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from goldenami.aws.contract import CONTRACT
from goldenami.core.errors import GoldenError
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


def remove_all(run: SelftestRun) -> list[str]:
    """Remove what this run and ended ones made in its regions. Return what is left, by listing."""
    with run.progress.step("sweep", "all that was made is removed"):
        prepared = sweep.of_selftest(run.account, list(run.regions))
        for line in sweep.lines(prepared.plan):
            print(line, flush=True)
        try:
            sweep.execute(run.account, prepared)
        except GoldenError as error:
            run.progress.say(f"not everything was removed: {error.message} ({error.hint})")
        after = sweep.of_selftest(run.account, list(run.regions))
    left = [
        f"{region}: {item.kind} {item.id}"
        for region, items in after.plan.regions.items()
        for item in items
    ]
    return left + [f"{region}: {why}" for region, why in after.plan.unreachable.items()]
