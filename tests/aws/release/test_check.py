"""Whether pointers are right, by `golden status`, and regions that a definition has dropped."""

from __future__ import annotations

import json

import pytest
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture
def published(checkout: Checkout, aws: Emulator) -> list[str]:
    aws.set(pending_s=0.01)
    return [checkout.publish(number) for number in (1, 2)]


def check(checkout: Checkout, code: int) -> str:
    return checkout.run("status", IMAGE, code=code)


def test_pointers_that_are_right_are_told_so(checkout: Checkout, published: list[str]) -> None:
    check(checkout, 0)
    found = json.loads(checkout.golden("status", IMAGE, "--json").text)
    latest = {region: there[0]["latest"]["build_id"] for region, there in found["regions"].items()}
    assert (found["problems"], latest) == ([], dict.fromkeys(REGIONS, published[1]))


def test_each_pointer_that_went_astray_is_named(checkout: Checkout, published: list[str]) -> None:
    """And the next publish brings it back."""
    state = RegionState(REGIONS[1])
    old, new = (state.ami(build) for build in published)
    state.ssm.put_parameter(
        Name=f"/golden-ami/{IMAGE}/candidate", Value=old, Type="String", Overwrite=True
    )
    state.ec2.modify_launch_template(LaunchTemplateName=f"golden-{IMAGE}", DefaultVersion="1")
    text = check(checkout, 6)
    assert f"{IMAGE}/candidate names {old}, not {new} as the ledger does" in text
    assert f"the default of golden-{IMAGE} launches {old}, not {new} as the ledger says" in text
    checkout.run("publish", IMAGE)
    check(checkout, 0)
    state.ec2.disable_image(ImageId=new)
    assert f"`latest` names {new}, which is disabled" in check(checkout, 6)
    state.ec2.deregister_image(ImageId=new)
    assert f"`latest` names {new}, which does not exist" in check(checkout, 6)


def test_a_region_that_was_dropped_is_named_until_somebody_decides(
    checkout: Checkout, published: list[str]
) -> None:
    checkout.define(f"publish: {{regions: [{REGIONS[0]}]}}\n")
    third = builds.build(checkout.root, 3).name
    dropped = "the definition has dropped this region"
    for args in (("publish", IMAGE), ("rollback", IMAGE), ("rollback", IMAGE, "--to", third)):
        assert f"{REGIONS[1]}       {dropped}" in checkout.run(*args)
    assert f"{IMAGE} in {REGIONS[1]}: the definition has dropped this region" in check(checkout, 6)
    for words in (("retire", IMAGE), ("retire", IMAGE, "--dry-run")):
        said = checkout.run(*words)
        assert dropped in said
        assert REGIONS[1] in said
    checkout.define(f"publish: {{regions: [{REGIONS[0]}], left_regions: [{REGIONS[1]}]}}\n")
    check(checkout, 0)
    assert RegionState(REGIONS[1]).agree() == published[1]
