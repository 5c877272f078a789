"""An answer that is lost while `latest` moves: it moves once, and everywhere."""

from __future__ import annotations

import pytest
from goldenami.core.errors import ExitCode
from support.aws.emulator import Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture
def build_ids(checkout: Checkout) -> list[str]:
    """Ids of two builds: the first is `latest`, the second its candidate."""
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 1}\n")
    ids = []
    for number in (1, 2):
        ids.append(builds.build(checkout.root, number).name)
        checkout.run("publish", IMAGE, code=ExitCode.HELD_BACK)
        if number == 1:
            checkout.run("promote", IMAGE, "--now")
    return ids


def test_an_answer_that_was_lost_moves_nothing_twice(
    checkout: Checkout, build_ids: list[str], faults: Faults,
) -> None:
    """The request arrives, the connection breaks before the answer: the SDK sends it again."""
    for args, latest in ((("promote", IMAGE, "--now"), build_ids[1]),
                         (("rollback", IMAGE, "--to", build_ids[0]), build_ids[0])):
        for service, operation in (
                ("ssm", "PutParameter"), ("ec2", "CreateLaunchTemplateVersion"),
                ("ec2", "ModifyLaunchTemplate"), ("dynamodb", "UpdateItem")):
            faults.add(service, operation, times=1, response={"abort_frac": 0.3})
        checkout.run(*args)
        assert faults.fired()
        faults.clear()
        for region in REGIONS:
            RegionState(region).check(build_ids, latest)
            assert len(RegionState(region).versions()) == 2
