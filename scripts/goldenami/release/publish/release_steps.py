"""The next step of a lock's build on its way to `latest`, for pipelines that run without a
person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from goldenami.aws.channels.ledger import Ledger
from goldenami.core import clock
from goldenami.release.publish import channel_moves


class ReleaseStep(StrEnum):
    """The steps of a release, by their commands, besides WAIT and DONE."""

    BAKE = "bake"
    PUBLISH = "publish"
    GPU_TEST = "gpu-test"
    PROMOTE = "promote"
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True)
class NextStep:
    """The next step, and the reason for it in words."""

    step: ReleaseStep
    why: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """A lock's build on its way to `latest`, with the ledgers of all its regions.

    `is_baked` is True if a verified build is on this machine, `is_tested` if it needs no GPU test
    or has passed it, `is_judged` if its vulnerabilities have to be looked up, which needs the
    build. `waiting` are groups that were not refreshed to `latest` yet.
    """

    build_id: str
    ledgers: Mapping[str, Ledger]
    is_baked: bool
    is_tested: bool
    soak_hours: int
    is_judged: bool = False
    waiting: Sequence[str] = ()

    def next_step(self) -> NextStep:
        """Return the next step."""
        build_id, ledgers, waiting = self.build_id, self.ledgers, self.waiting
        if rolled_back := [
            region for region, ledger in ledgers.items() if build_id in ledger.withdrawn
        ]:
            return NextStep(
                ReleaseStep.WAIT,
                f"build {build_id} was rolled back in {', '.join(rolled_back)}: a new lock "
                f"goes on, or `golden rollback IMAGE --to {build_id}`",
            )
        forward = ReleaseStep.PUBLISH if self.is_baked else ReleaseStep.BAKE
        if all(ledger.latest and ledger.latest.build_id == build_id for ledger in ledgers.values()):
            why = f"build {build_id} is `latest` in {', '.join(ledgers)}"
            if waiting:
                why += f", and {', '.join(waiting)} not asked to take it"
            return NextStep(forward if waiting else ReleaseStep.DONE, why)
        candidates = [
            ledger.candidate
            for ledger in ledgers.values()
            if ledger.candidate and ledger.candidate.build_id == build_id
        ]
        if len(candidates) < len(ledgers):
            return NextStep(forward, f"build {build_id} is not the candidate in every region")
        if not self.is_tested:
            return NextStep(
                ReleaseStep.GPU_TEST, f"the candidate {build_id} is not tested on a GPU"
            )
        ready = channel_moves.soaked_at([entry.since for entry in candidates], self.soak_hours)
        if clock.now() < ready:
            return NextStep(
                ReleaseStep.WAIT,
                f"the candidate {build_id} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
            )
        # Looking vulnerabilities up takes the build's files, so it is baked again if they are not
        # on this machine.
        return NextStep(
            ReleaseStep.BAKE if self.is_judged and not self.is_baked else ReleaseStep.PROMOTE,
            f"the candidate {build_id} may become `latest`",
        )
