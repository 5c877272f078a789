"""A call that one region refuses while pointers move: no region has moved, and the same command
continues."""

from __future__ import annotations

from support.aws.emulator import Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

ERROR = {"code": "InvalidParameterValue", "status": 400}


def build(checkout: Checkout, number: int) -> str:
    return builds.build(checkout.root, number).name


def candidates() -> list[str]:
    """The build that `candidate` names in each region, by SSM and by the ledger alike."""
    build_ids = []
    for region in REGIONS:
        entry = RegionState(region).ledger().candidate
        assert entry is not None
        assert entry.ami == RegionState(region).parameter("candidate")
        build_ids.append(entry.build_id)
    return build_ids


def test_a_region_that_refuses_keeps_all_where_they_were(
    checkout: Checkout, faults: Faults,
) -> None:
    build_ids = [build(checkout, 1)]
    checkout.run("publish", IMAGE)
    build_ids.append(build(checkout, 2))
    faults.add("ec2", "ModifyLaunchTemplate", region="us-west-2", error=ERROR)
    text = checkout.run("publish", IMAGE, code=5)
    faults.clear()
    assert "no pointer has moved: AWS refused ModifyLaunchTemplate in us-west-2" in text
    assert "us-east-1       is as it was" in text
    assert f"`scripts/golden publish {IMAGE} --build {build_ids[1]}` continues" in text
    for region in REGIONS:
        state = RegionState(region)
        latest = state.ledger().latest
        template = state.template()
        assert latest is not None and template is not None
        assert latest.build_id == build_ids[0]
        assert (state.parameter("latest"), template["LaunchTemplateData"]["ImageId"]) == (
            latest.ami,
            latest.ami,
        )
    assert candidates() == [build_ids[1]] * 2
    checkout.run("publish", IMAGE, "--build", build_ids[1])
    for region in REGIONS:
        RegionState(region).check(build_ids, build_ids[1])
    assert candidates() == [build_ids[1]] * 2


def test_of_a_first_publish_nothing_stays_or_it_is_named(
    checkout: Checkout, faults: Faults,
) -> None:
    first = build(checkout, 1)
    faults.add("ec2", "CreateLaunchTemplate", region="us-west-2", error=ERROR)
    assert "no pointer has moved" in checkout.run("publish", IMAGE, code=5)
    for region in REGIONS:
        state = RegionState(region)
        pointers = (state.parameter("latest"), state.template(), state.ledger().latest)
        assert pointers == (None, None, None)
    faults.add("ssm", "DeleteParameter", region="us-east-1", error=ERROR)
    text = checkout.run("publish", IMAGE, code=5)
    assert "pointers may have moved in us-east-1 and nowhere else: AWS refused Create" in text
    assert "us-east-1, back AWS refused DeleteParameter in us-east-1" in text
    assert RegionState("us-west-2").parameter("latest") is None
    faults.clear()
    checkout.run("publish", IMAGE, "--build", first)
    for region in REGIONS:
        RegionState(region).check([first], first)
