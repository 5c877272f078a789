"""From candidate to `latest`: what moves, who follows, what refuses."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.release.publish.publish_records import PROMOTE_FILE, MoveRecord
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

SOAK = "publish: {regions: [us-east-1, us-west-2], soak_hours: 1, launch_template: {instance_type: c7i.large}}\n"
GROUP = SOAK.replace("soak_hours", "instance_refresh: {groups: [web], checkpoint_percent: 20}, soak_hours")


@pytest.fixture
def soaking(checkout: Checkout) -> list[Path]:
    """Folders of two builds: the first is `latest`, the second its candidate."""
    checkout.define(SOAK)
    folders = [builds.build(checkout.root, 1)]
    publish(checkout)
    promote(checkout, "--now")
    folders.append(builds.build(checkout.root, 2))
    publish(checkout)
    return folders


def publish(checkout: Checkout, *args: str) -> None:
    ran = checkout.golden("publish", IMAGE, *args)
    assert ran.code == ExitCode.HELD_BACK, ran.text


def promote(checkout: Checkout, *args: str, code: int = 0) -> str:
    ran = checkout.golden("promote", IMAGE, *args)
    assert ran.code == code, ran.text
    return ran.text


# --- candidates that are none ---------------------------------------------------------------------------------------

def test_a_candidate_whose_ami_is_gone(checkout: Checkout, soaking: list[Path]) -> None:
    state = RegionState("us-west-2")
    ami = state.parameter("candidate")
    state.ec2.deregister_image(ImageId=ami)
    text = promote(checkout, "--now", code=2)
    assert f"the candidate's AMI {ami} is gone or not available in us-west-2" in text
    assert f"`scripts/golden publish {IMAGE} --build {soaking[1].name}` makes it again" in text
    unmoved(soaking)


def test_candidates_that_differ(checkout: Checkout, soaking: list[Path]) -> None:
    checkout.define(SOAK.replace(", us-west-2", ""))
    third = builds.build(checkout.root, 3).name
    publish(checkout)
    checkout.define(SOAK)
    assert f"the candidates of {IMAGE} differ: us-east-1 has {third}, us-west-2 has {soaking[1].name}" in promote(
        checkout, "--now", code=2)
    unmoved(soaking)


def test_a_candidate_that_was_withdrawn(checkout: Checkout, soaking: list[Path]) -> None:
    state, build = RegionState("us-west-2"), soaking[1].name
    state.dynamodb.update_item(
        TableName="golden-ami", Key={"image": {"S": IMAGE}}, UpdateExpression="SET ledger = :ledger",
        ExpressionAttributeValues={":ledger": {"S": state.ledger().withdraw(build).model_dump_json()}})
    assert f"the candidate {build} was rolled back in us-west-2" in promote(checkout, "--now", code=2)
    unmoved(soaking)


def test_a_region_that_was_added_gets_what_is_latest_elsewhere(checkout: Checkout) -> None:
    """The build was released once; a second soak would leave the regions apart."""
    checkout.define("publish: {regions: [us-east-1], soak_hours: 0}\n")
    build = checkout.publish(1)
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 1}\n")
    ran = checkout.golden("publish", IMAGE)
    assert ran.code == 0, ran.text
    assert "stays" not in ran.text
    for region in REGIONS:
        RegionState(region).check([build], build)


def unmoved(soaking: list[Path]) -> None:
    """`latest` is still the first build everywhere."""
    for region in REGIONS:
        entry = RegionState(region).ledger().latest
        assert entry is not None
        assert (entry.build_id, entry.ami) == (soaking[0].name, RegionState(region).parameter("latest"))


# --- groups that follow ---------------------------------------------------------------------------------------------

def test_groups_follow_a_promotion_once(checkout: Checkout, soaking: list[Path]) -> None:
    checkout.define(GROUP)
    assert "no region has the Auto Scaling group web" in promote(checkout, "--now", code=2)
    boto3.client("autoscaling", region_name="us-east-1").create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=1, AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": f"golden-{IMAGE}", "Version": "1"})
    assert "us-east-1       refresh the group web" in promote(checkout, "--now", "--dry-run")
    assert RegionState("us-east-1").refreshes() == []
    text = promote(checkout, "--now")
    assert ("us-east-1: refresh of web: started" in text, "us-west-2: refresh" in text) == (True, False), text
    (refresh,) = RegionState("us-east-1").refreshes()
    version = RegionState("us-east-1").template()
    assert version is not None
    assert refresh["DesiredConfiguration"]["LaunchTemplate"] == {
        "LaunchTemplateId": version["LaunchTemplateId"], "Version": "2"}
    record = records.read(soaking[1] / PROMOTE_FILE, MoveRecord)
    assert {move.region: move.refresh for move in record.plan.regions} == {"us-east-1": ("web",), "us-west-2": ()}
    assert "refresh" not in promote(checkout, "--now")
    assert len(RegionState("us-east-1").refreshes()) == 1


# --- what one region withdrew while another was out -----------------------------------------------------------------

def test_a_soaking_build_after_a_rollback_that_one_region_missed(
    checkout: Checkout, soaking: list[Path], aws: Emulator,
) -> None:
    """us-west-2 goes on with the build that was withdrawn until the next promotion, which writes that down there."""
    promote(checkout, "--now")
    aws.set(disabled_regions=["us-west-2"])
    assert checkout.golden("rollback", IMAGE).code == 8
    aws.set(disabled_regions=[])
    bad, state = soaking[1].name, RegionState("us-west-2")
    builds.build(checkout.root, 3)
    publish(checkout)
    assert (state.agree(), state.ledger().withdrawn) == (bad, ())
    text = checkout.golden("status", IMAGE, "--check").text
    assert f"`latest` names {bad}, which was withdrawn in us-east-1" in text, text
    assert "nothing to do" in checkout.golden("publish", IMAGE).text
    assert f"withdrawn, so that no publish brings it back unasked: {bad}" in promote(checkout, "--now")
    for region in REGIONS:
        assert RegionState(region).ledger().withdrawn == (bad,)
    assert checkout.golden("status", IMAGE, "--check").code == 0
    assert f"to build {soaking[0].name}" in checkout.golden("rollback", IMAGE).text
