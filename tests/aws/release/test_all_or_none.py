"""A call that one region refuses while pointers move: no region has moved, and the same command
continues."""

from __future__ import annotations

from support.aws.emulator import Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


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
    checkout: Checkout,
    faults: Faults,
) -> None:
    build_ids = [build(checkout, 1)]
    checkout.run("publish", IMAGE)
    build_ids.append(build(checkout, 2))
    faults.add("ec2:ModifyLaunchTemplate", regions=["us-west-2"], code="InvalidParameterValue")
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
    assert candidates() == [build_ids[0]] * 2
    checkout.run("publish", IMAGE, "--build", build_ids[1])
    for region in REGIONS:
        RegionState(region).check(build_ids, build_ids[1])
    assert candidates() == [build_ids[1]] * 2
