"""Retirement with few builds and short waits, as the tests of it run it and look at it."""

from __future__ import annotations

from pathlib import Path

from goldenami.aws.regions import Prepared
from goldenami.aws.session import Account
from goldenami.core.terminal.progress import Progress
from goldenami.release.retire import retire
from goldenami.release.retire.retention import (
    RegionRetirePlan,
    RetentionPolicy,
    RetirePlan,
    RetireStep,
)

from support.aws.seeded_account import IMAGE, SeededAccount

POLICY = RetentionPolicy(
    keep_last=1, max_age_days=30, disable_after_days=7, deregister_after_days=7
)
GRACELESS = (
    "--set",
    "keep_last=1",
    "--set",
    "max_age_days=1",
    "--set",
    "disable_after_days=0",
    "--set",
    "deregister_after_days=0",
)
"""The options of `golden retire` for: keep one build, and take every step with the others at
once."""
LATER = 100
"""Days after which everything in a seeded account is old."""


def prepare(
    session: Account, regions: list[str], policy: RetentionPolicy = POLICY
) -> Prepared[RetirePlan]:
    """What would be done in each of the regions."""
    return retire.prepare(
        session, IMAGE, regions, policy, Progress("retire", IMAGE, Path("timings"))
    )


def plan(account: SeededAccount, policy: RetentionPolicy = POLICY) -> RegionRetirePlan:
    """What would be done."""
    return prepare(account.session, [account.region], policy).plan.regions[0]


def run(account: SeededAccount) -> None:
    """Do what is due."""
    retire.execute(
        account.session,
        prepare(account.session, [account.region]),
        Progress("retire", IMAGE, Path("timings")),
    )


def reasons(planned: RegionRetirePlan) -> dict[str, list[str]]:
    """Why each thing stays, by its id."""
    return {survivor.target: survivor.reasons for survivor in planned.survivors}


def steps(planned: RegionRetirePlan) -> list[tuple[RetireStep, str]]:
    """What is done to what, in order."""
    return [(action.step, action.target) for action in planned.actions]
