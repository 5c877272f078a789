"""How far a lock's build has come on its way to `latest`, and which step is next: for pipelines
without a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from goldenami.aws.channels.ledger import Ledger
from goldenami.core import clock
from goldenami.release.publish import channel_moves


class ReleaseStep(StrEnum):
    """What brings a build on, by its command."""

    BAKE = "bake"
    PUBLISH = "publish"
    GPU_TEST = "gpu-test"
    PROMOTE = "promote"
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True)
class NextStep:
    """The next step, with the reason for a person."""

    step: ReleaseStep
    why: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """A lock's build on its way to `latest`, with the ledgers of all its regions.

    `is_baked`: a verified build is here. `is_tested`: it needs no test on a GPU, or has passed it.
    `is_judged`: its vulnerabilities have to be looked up, which takes the build. `waiting` are
    groups that were not asked to take what is `latest`.
    """

    build_id: str
    ledgers: Mapping[str, Ledger]
    is_baked: bool
    is_tested: bool
    soak_hours: int
    is_judged: bool = False
    waiting: Sequence[str] = ()

    def next_step(self) -> NextStep:
        """What is to be done next."""
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
        standing = [
            ledger.candidate
            for ledger in ledgers.values()
            if ledger.candidate and ledger.candidate.build_id == build_id
        ]
        if len(standing) < len(ledgers):
            return NextStep(forward, f"build {build_id} is not the candidate in every region")
        if not self.is_tested:
            return NextStep(
                ReleaseStep.GPU_TEST, f"the candidate {build_id} is not tested on a GPU"
            )
        ready = channel_moves.soaked_at([entry.since for entry in standing], self.soak_hours)
        if clock.now() < ready:
            return NextStep(
                ReleaseStep.WAIT,
                f"the candidate {build_id} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
            )
        return NextStep(
            ReleaseStep.BAKE if self.is_judged and not self.is_baked else ReleaseStep.PROMOTE,
            f"the candidate {build_id} may become `latest`",
        )
