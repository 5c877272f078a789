"""Back to the build before, in all regions: what moves, what refuses, what a region that is down does not stop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.release.publish.publish_records import MoveRecord
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState
from support.waiting import until


@pytest.fixture
def published(checkout: Checkout) -> list[str]:
    """Ids of two builds, both published, one after the other."""
    return [checkout.publish(number) for number in (1, 2)]


def rollback(checkout: Checkout, *args: str, code: int = 0) -> str:
    ran = checkout.golden("rollback", IMAGE, *args)
    assert ran.code == code, ran.text
    return ran.text


def latest(region: str) -> str:
    entry = RegionState(region).ledger().latest
    assert entry is not None
    return entry.build_id


def test_pointers_and_template_go_back_everywhere(checkout: Checkout, published: list[str]) -> None:
    text = rollback(checkout)
    assert f"withdrawn, so that no publish brings it back unasked: {published[1]}" in text
    for region in REGIONS:
        state = RegionState(region)
        state.check(published, published[0])
        assert state.parameter("candidate") == state.parameter("latest")
        assert [version["DefaultVersion"] for version in state.versions()] == [True, False]
    (file,) = (checkout.root / "build" / IMAGE / "logs").glob("rollback-*.json")
    record = records.read(file, MoveRecord)
    assert {move.before_build for move in record.plan.regions} == {published[1]}
    assert {move.template_before for move in record.plan.regions} == {2}
    assert (record.template_versions, record.failed) == (dict.fromkeys(REGIONS, 1), {})


def test_a_dry_run_moves_nothing(checkout: Checkout, published: list[str], aws: Emulator) -> None:
    before = len(aws.calls())
    assert f"roll back {IMAGE} to build {published[0]}" in rollback(checkout, "--dry-run")
    assert {call.partition(":")[2][:3] for call, _ in aws.calls()[before:]} == {"Get", "Des"}
    assert {latest(region) for region in REGIONS} == {published[1]}


def test_a_withdrawn_build_comes_back_only_when_asked(checkout: Checkout, published: list[str]) -> None:
    rollback(checkout)
    ran = checkout.golden("publish", IMAGE)
    assert (ran.code, f"build {published[1]} was rolled back in us-east-1" in ran.text) == (2, True), ran.text
    assert checkout.golden("publish", IMAGE, "--again").code == 0
    for region in REGIONS:
        RegionState(region).check(published, published[1])
        assert RegionState(region).ledger().withdrawn == ()


def test_a_third_build_after_a_rollback(checkout: Checkout, published: list[str]) -> None:
    rollback(checkout)
    third = checkout.publish(3)
    for region in REGIONS:
        RegionState(region).check([*published, third], third)
    assert f"to build {published[0]}" in rollback(checkout)
    assert {latest(region) for region in REGIONS} == {published[0]}


def test_a_named_build_and_back_again(checkout: Checkout, published: list[str]) -> None:
    third = checkout.publish(3)
    rollback(checkout, "--to", published[0])
    assert {latest(region) for region in REGIONS} == {published[0]}
    rollback(checkout, "--to", third)
    for region in REGIONS:
        RegionState(region).check([*published, third], third)
        assert RegionState(region).ledger().withdrawn == ()


def test_there_is_nothing_before_the_first(checkout: Checkout) -> None:
    builds.build(checkout.root, 1)
    assert "no build before the present one" in rollback(checkout, code=2)
    assert checkout.golden("publish", IMAGE).code == 0
    assert "us-east-1: none" in rollback(checkout, code=2)


@pytest.mark.parametrize(("harm", "message"), [
    (lambda ec2, ami: ec2.disable_image(ImageId=ami), "is disabled"),
    (lambda ec2, ami: ec2.deregister_image(ImageId=ami), "us-west-2: gone"),
], ids=["disabled", "gone"])
def test_a_build_that_cannot_be_launched(
    checkout: Checkout, published: list[str], harm: Callable[[Any, str], object], message: str,
) -> None:
    state = RegionState("us-west-2")
    harm(state.ec2, state.amis()[f"{IMAGE}-{published[0]}"]["ImageId"])
    text = rollback(checkout, code=2)
    assert f"build {published[0]} of {IMAGE} cannot be launched everywhere: us-west-2: " in text
    assert message in text
    assert {latest(region) for region in REGIONS} == {published[1]}
    rollback(checkout, "--region", "us-east-1")
    assert (latest("us-east-1"), latest("us-west-2")) == (published[0], published[1])


def test_a_region_that_is_down_is_taken_back_later(
    checkout: Checkout, published: list[str], aws: Emulator,
) -> None:
    aws.set(disabled_regions=["us-west-2"])
    text = rollback(checkout, code=8)
    assert "1 of 2 regions went back" in text
    assert f"`scripts/golden rollback {IMAGE} --to {published[0]} --region us-west-2` does the rest" in text
    RegionState("us-east-1").check(published, published[0])
    aws.set(disabled_regions=[])
    assert latest("us-west-2") == published[1]
    rollback(checkout, "--to", published[0], "--region", "us-west-2")
    RegionState("us-west-2").check(published, published[0])
    assert RegionState("us-west-2").ledger().withdrawn == (published[1],)


def test_a_region_whose_connections_break_keeps_no_other(
    checkout: Checkout, published: list[str], faults: Faults,
) -> None:
    faults.add("*", region="us-west-2", reset=True)
    text = rollback(checkout, code=4)
    assert "1 of 2 regions went back: AWS did not answer in us-west-2" in text
    assert len(faults.fired()) < 20, "it is not asked for long"
    faults.clear()
    RegionState("us-east-1").check(published, published[0])
    RegionState("us-west-2").check(published, published[1])


def test_the_same_command_again_finishes_what_one_region_lacks(
    checkout: Checkout, published: list[str], aws: Emulator,
) -> None:
    """Without --to it must not go back by one more where it is done already."""
    aws.set(denied={"*": ["ec2:ModifyLaunchTemplate"]})
    assert "may not call ec2:ModifyLaunchTemplate" in rollback(checkout, code=8)
    aws.set(denied={})
    rollback(checkout)
    for region in REGIONS:
        RegionState(region).check(published, published[0])


# --- what one region withdrew while another was out -----------------------------------------------------------------


@pytest.fixture
def half_back(checkout: Checkout, published: list[str], faults: Faults) -> list[str]:
    """Ids of the two builds: the second was rolled back in us-east-1 while us-west-2 was out, which is back now."""
    faults.add("*", region="us-west-2", reset=True)
    rollback(checkout, code=4)
    faults.clear()
    assert RegionState("us-west-2").ledger().withdrawn == ()
    return published


def check(checkout: Checkout, code: int) -> str:
    ran = checkout.golden("status", IMAGE, "--check")
    assert ran.code == code, ran.text
    return ran.text


def test_what_a_region_did_not_hear_of_is_told_and_written_by_the_next_publish(
    checkout: Checkout, half_back: list[str],
) -> None:
    lacks = f"us-west-2: the ledger does not say that {half_back[1]} was withdrawn, as it was in us-east-1"
    assert lacks in check(checkout, 6)
    builds.build(checkout.root, 3)
    ran = checkout.golden("publish", IMAGE, "--dry-run")
    assert f"in which it is missing that {half_back[1]} was withdrawn elsewhere" in ran.text, ran.text
    assert checkout.golden("publish", IMAGE).code == 0
    check(checkout, 0)
    for region in REGIONS:
        assert RegionState(region).ledger().withdrawn == (half_back[1],)


@pytest.mark.parametrize("only", [(), ("--region", "us-west-2")], ids=["everywhere", "one region"])
def test_a_withdrawn_build_does_not_come_back_by_a_second_rollback(
    checkout: Checkout, half_back: list[str], only: tuple[str, ...],
) -> None:
    third = checkout.publish(3)
    assert f"to build {half_back[0]}" in rollback(checkout, *only)
    assert latest("us-west-2") == half_back[0]
    assert latest("us-east-1") == (third if only else half_back[0])


def test_a_rollback_of_one_region_asks_the_others_what_they_withdrew(
    checkout: Checkout, half_back: list[str], aws: Emulator,
) -> None:
    """The ledger of us-west-2 as an older version left it: a newer build, and nothing of what was withdrawn."""
    checkout.publish(3)
    state = RegionState("us-west-2")
    state.dynamodb.update_item(
        TableName="golden-ami", Key={"image": {"S": IMAGE}}, UpdateExpression="SET ledger = :ledger",
        ExpressionAttributeValues={":ledger": {"S": state.ledger().readmit(half_back[1]).model_dump_json()}})
    text = rollback(checkout, "--region", "us-west-2")
    assert f"to build {half_back[0]}" in text, text
    assert half_back[1] in RegionState("us-west-2").ledger().withdrawn
    rollback(checkout, "--region", "us-west-2", "--to", half_back[1])
    assert latest("us-west-2") == half_back[1], "by its name it comes back"
    assert f"`latest` names {half_back[1]}, which was withdrawn in us-east-1" in check(checkout, 6)


def test_a_region_that_went_back_to_what_another_withdrew_is_no_aim(
    checkout: Checkout, published: list[str],
) -> None:
    """us-east-1 went back to the second build, us-west-2 found that bad, too, and has a fourth one since."""
    third = checkout.publish(3)
    rollback(checkout, "--region", "us-east-1")
    rollback(checkout, "--region", "us-west-2", "--to", published[0])
    assert (latest("us-east-1"), latest("us-west-2")) == (published[1], published[0])
    checkout.define("publish: {regions: [us-west-2]}\n")
    builds.build(checkout.root, 4)
    assert checkout.golden("publish", IMAGE).code == 0
    checkout.define("publish: {regions: [us-east-1, us-west-2]}\n")
    state = RegionState("us-west-2")
    ledger = state.ledger().withdraw(published[1])
    state.dynamodb.update_item(
        TableName="golden-ami", Key={"image": {"S": IMAGE}}, UpdateExpression="SET ledger = :ledger",
        ExpressionAttributeValues={":ledger": {"S": ledger.model_dump_json()}})
    rollback(checkout, "--region", "us-east-1")
    assert latest("us-east-1") == published[0]
    assert {third, published[1]} <= set(RegionState("us-east-1").ledger().withdrawn)


def test_another_region_that_is_out_is_named_and_keeps_none(
    checkout: Checkout, published: list[str], aws: Emulator,
) -> None:
    aws.set(disabled_regions=["us-west-2"])
    text = rollback(checkout, "--region", "us-east-1")
    assert "us-west-2       unreachable: " in text, text
    assert latest("us-east-1") == published[0]


def test_a_dry_run_in_an_outage_names_the_region_and_says_so(
    checkout: Checkout, published: list[str], aws: Emulator,
) -> None:
    aws.set(disabled_regions=["us-west-2"])
    text = rollback(checkout, "--dry-run", code=8)
    assert f"to build {published[0]}" in text and "us-west-2       unreachable: " in text, text
    assert {latest(region) for region in ("us-east-1",)} == {published[1]}


# --- builds that `latest` never named -------------------------------------------------------------------------------

def gpu_candidate(checkout: Checkout) -> str:
    """A GPU image whose second build is a candidate that no GPU has seen; returns its id."""
    for number, allowed in ((1, ["--accept-untested-gpu"]), (2, [])):
        build_id = builds.build(checkout.root, number, image=builds.GPU_IMAGE, sm=("86",)).name
        ran = checkout.golden("publish", builds.GPU_IMAGE, *allowed)
        assert ran.code == (0 if allowed else ExitCode.HELD_BACK), ran.text
    return build_id


def test_the_gate_for_gpus_has_no_way_round(checkout: Checkout) -> None:
    candidate = gpu_candidate(checkout)
    to = ("rollback", builds.GPU_IMAGE, "--to", candidate)
    ran = checkout.golden(*to)
    assert (ran.code, f"build {candidate} is not tested on a GPU" in ran.text) == (6, True), ran.text
    shutil.rmtree(checkout.root / "build" / builds.GPU_IMAGE / candidate)
    assert checkout.golden(*to).code == 6, "also where this machine knows nothing of the build"
    assert RegionState("us-west-2", builds.GPU_IMAGE).parameter("latest") != RegionState(
        "us-west-2", builds.GPU_IMAGE).parameter("candidate")
    ran = checkout.golden(*to, "--accept-untested-gpu")
    assert ran.code == 0, ran.text
    for region in REGIONS:
        entry = RegionState(region, builds.GPU_IMAGE).ledger().latest
        assert entry is not None
        assert (entry.build_id, entry.gpu) == (candidate, "not tested on a GPU, accepted")
    assert checkout.golden("rollback", builds.GPU_IMAGE).code == 0
    assert checkout.golden(*to).code == 0, "it was `latest` already"


def test_a_soak_has_no_way_round(checkout: Checkout, published: list[str]) -> None:
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 24}\n")
    build_ids = [builds.build(checkout.root, number).name for number in (3, 4)]
    for build in build_ids:
        assert checkout.golden("publish", IMAGE, "--build", build).code == ExitCode.HELD_BACK
    assert f"the candidate {build_ids[1]} has to stand until" in rollback(checkout, "--to", build_ids[1], code=6)
    assert f"build {build_ids[0]} was neither `latest` nor is it the candidate" in rollback(
        checkout, "--to", build_ids[0], code=6)
    assert {latest(region) for region in REGIONS} == {published[1]}
    rollback(checkout, "--to", published[0])
    rollback(checkout, "--to", build_ids[0], "--now")
    assert {latest(region) for region in REGIONS} == {build_ids[0]}


# --- groups that follow ---------------------------------------------------------------------------------------------

GROUP = "publish: {regions: [us-east-1, us-west-2], instance_refresh: {groups: [web], checkpoint_percent: 20}}\n"


def make_group(version: str) -> None:
    state = RegionState("us-east-1")
    zone = state.ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    boto3.client("autoscaling", region_name="us-east-1").create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=1, MaxSize=1, AvailabilityZones=[zone],
        LaunchTemplate={"LaunchTemplateName": f"golden-{IMAGE}", "Version": version})


def wait_for(status: str) -> None:
    until(f"a refresh that is {status}", lambda: RegionState("us-east-1").refreshes()[0]["Status"] == status)


def test_groups_follow_latest_forth_and_back(checkout: Checkout, aws: Emulator) -> None:
    checkout.define("publish: {regions: [us-east-1, us-west-2], launch_template: {instance_type: c7i.large}}\n")
    first = builds.build(checkout.root, 1)
    assert checkout.golden("publish", IMAGE).code == 0
    checkout.define(GROUP.replace("instance_refresh", "launch_template: {instance_type: c7i.large}, instance_refresh"))
    ran = checkout.golden("publish", IMAGE)
    assert (ran.code, "no region has the Auto Scaling group web" in ran.text) == (2, True), ran.text
    make_group("1")
    second = builds.build(checkout.root, 2)
    ran = checkout.golden("publish", IMAGE)
    assert (ran.code, "us-east-1: refresh of web: started" in ran.text) == (0, True), ran.text
    (refresh,) = RegionState("us-east-1").refreshes()
    assert refresh["DesiredConfiguration"]["LaunchTemplate"]["Version"] == "2"
    preferences = {"AutoRollback": True, "SkipMatching": True, "MinHealthyPercentage": 90,
              "CheckpointPercentages": [20, 100], "CheckpointDelay": 3600}
    assert refresh["Preferences"] == refresh["Preferences"] | preferences
    assert f"nothing to do: build {second.name}" in checkout.golden("publish", IMAGE).text
    wait_for("Successful")
    assert "us-east-1: refresh of web: started" in rollback(checkout)
    assert RegionState("us-east-1").refreshes()[0]["DesiredConfiguration"]["LaunchTemplate"]["Version"] == "1"
    RegionState("us-east-1").check([first.name, second.name], first.name)
