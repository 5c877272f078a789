"""Promotion and rollback through an API that throttles, fails and breaks off: `latest` moves, once and everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from goldenami.core.errors import ExitCode
from support.aws.emulator import Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

TRIES = 3
"""A rollback asks a region three times only, so that one that is down is known soon; its user asks again."""


@pytest.fixture
def build_ids(checkout: Checkout) -> list[str]:
    """Ids of two builds: the first is `latest`, the second its candidate."""
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 1}\n")
    ids = []
    for number in (1, 2):
        ids.append(builds.build(checkout.root, number).name)
        assert checkout.golden("publish", IMAGE).code == ExitCode.HELD_BACK
        if number == 1:
            assert checkout.golden("promote", IMAGE, "--now").code == 0
    return ids


FAULTS = pytest.mark.parametrize("rule", [
    {"probability": 0.3, "error": {"code": "ThrottlingException"}},
    pytest.param({"probability": 0.2, "error": {"code": "InternalError", "status": 500}}, marks=pytest.mark.slow),
    pytest.param({"probability": 0.15, "reset": True}, marks=pytest.mark.slow),
], ids=["throttled", "500", "reset"])


def outlast(checkout: Checkout, faults: Faults, rule: dict[str, Any], *args: str) -> None:
    """Run it under the faults until it says that all is well, and without them where it never does."""
    faults.add("*", **rule)
    codes: list[int] = []
    while not codes or (codes[-1] and len(codes) < TRIES):
        codes.append(checkout.golden(*args).code)
    assert faults.fired()
    faults.clear()
    assert set(codes) <= {0, 4}, "no answer, and no other failure"
    if codes[-1]:
        ran = checkout.golden(*args)
        assert ran.code == 0, ran.text


@FAULTS
def test_a_promotion_outlasts_faults(
    checkout: Checkout, build_ids: list[str], faults: Faults, rule: dict[str, Any],
) -> None:
    outlast(checkout, faults, rule, "promote", IMAGE, "--now")
    for region in REGIONS:
        RegionState(region).check(build_ids, build_ids[1])


@FAULTS
def test_a_rollback_outlasts_faults(checkout: Checkout, build_ids: list[str], faults: Faults,
                                    rule: dict[str, Any]) -> None:
    assert checkout.golden("promote", IMAGE, "--now").code == 0
    outlast(checkout, faults, rule, "rollback", IMAGE, "--to", build_ids[0])
    for region in REGIONS:
        RegionState(region).check(build_ids, build_ids[0])
        assert RegionState(region).ledger().withdrawn == (build_ids[1],)


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_an_answer_that_was_lost_moves_nothing_twice(
    checkout: Checkout, build_ids: list[str], faults: Faults, command: str,
) -> None:
    """The request arrives, the connection breaks before the answer: the SDK sends it again."""
    if command == "rollback":
        assert checkout.golden("promote", IMAGE, "--now").code == 0
    for service, operation in (("ssm", "PutParameter"), ("ec2", "CreateLaunchTemplateVersion"),
                               ("ec2", "ModifyLaunchTemplate"), ("dynamodb", "UpdateItem")):
        faults.add(service, operation, times=1, response={"abort_frac": 0.3})
    ran = checkout.golden(command, IMAGE, *(["--now"] if command == "promote" else ["--to", build_ids[0]]))
    assert ran.code == 0, ran.text
    assert faults.fired()
    for region in REGIONS:
        RegionState(region).check(build_ids, build_ids[0] if command == "rollback" else build_ids[1])
        assert len(RegionState(region).versions()) == 2
