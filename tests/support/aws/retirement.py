"""Retirement with few builds and short waits, as the tests of it run it and look at it."""

from __future__ import annotations

from pathlib import Path

from goldenami.core.progress import Progress
from goldenami.lifecycle import retire
from goldenami.lifecycle.retention import Policy, RegionPlan, Step
from goldenami.lifecycle.retire import RetireRecord

from support.aws.seeded_account import IMAGE, SeededAccount

POLICY = Policy(keep_last=1, max_age_days=30, disable_after_days=7, deregister_after_days=7)
LATER = 100
"""Days after which everything in a seeded account is old."""


def plan(account: SeededAccount, policy: Policy = POLICY) -> RegionPlan:
    """What would be done."""
    return retire.prepare(account.session, IMAGE, [account.region], policy).plan.regions[0]


def run(account: SeededAccount, folder: Path, policy: Policy = POLICY) -> RetireRecord:
    """Do what is due."""
    prepared = retire.prepare(account.session, IMAGE, [account.region], policy)
    return retire.execute(account.session, prepared, folder, Progress("retire", IMAGE, folder / "timings"))


def reasons(planned: RegionPlan) -> dict[str, list[str]]:
    """Why each thing stays, by its id."""
    return {survivor.target: survivor.reasons for survivor in planned.survivors}


def steps(planned: RegionPlan) -> list[tuple[Step, str]]:
    """What is done to what, in order."""
    return [(action.step, action.target) for action in planned.actions]
