"""Publishing where AWS, the network or the credentials fail: what is said, and that the same command continues."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws.channels import lease, pointers
from goldenami.aws.channels.ledger import Channel, GpuProof, LedgerEntry
from goldenami.aws.session import HASTY_ATTEMPTS, Account
from goldenami.core import clock
from goldenami.core.errors import Busy, StageFailed
from goldenami.release.publish import publish as publish_stage
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState
from support.waiting import until


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def publish(checkout: Checkout, *args: str, code: int = 0) -> str:
    ran = checkout.golden("publish", IMAGE, *args)
    assert ran.code == code, ran.text
    return ran.text


def untouched(aws: Emulator) -> None:
    """No pointer has moved anywhere."""
    for region in REGIONS:
        state = RegionState(region)
        assert (state.parameter("latest"), state.parameter("candidate"), state.template()) == (None, None, None)


# --- who we are -----------------------------------------------------------------------------------------------------

def test_no_credentials(checkout: Checkout, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    text = publish(checkout, code=8)
    assert "no usable AWS credentials: Unable to locate credentials" in text
    assert "set AWS_PROFILE" in text


def test_a_profile_that_does_not_exist(checkout: Checkout, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    assert "The config profile (production) could not be found" in publish(checkout, code=2)


@pytest.mark.parametrize(("settings", "message"), [
    ({"expired_tokens": ["old"]}, "the AWS credentials have expired (GetCallerIdentity in us-east-1)"),
    ({"unknown_keys": ["AKIAEMULATOR00000000"]}, "AWS does not know these credentials (GetCallerIdentity"),
    ({"clock_ahead_s": 3600.0}, "this machine's clock differs from AWS's"),
], ids=["expired", "unknown", "clock"])
def test_credentials_that_are_not_good(
    checkout: Checkout, build: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    aws.set(**settings)
    assert message in publish(checkout, code=8)
    aws.set(expired_tokens=[], unknown_keys=[], clock_ahead_s=0.0)
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    untouched(aws)


@pytest.mark.parametrize("action", [
    "dynamodb:UpdateItem", "ec2:RegisterImage", "ec2:CreateLaunchTemplate",
    *(pytest.param(action, marks=pytest.mark.slow) for action in (
        "ec2:DescribeImages", "ebs:StartSnapshot", "ec2:EnableImageDeprecation", "ssm:PutParameter")),
])
def test_a_missing_permission_is_named_and_the_same_command_continues(
    checkout: Checkout, build: Path, aws: Emulator, action: str,
) -> None:
    checkout.define("publish: {regions: [us-east-1, us-west-2], transfer: upload}\n")
    aws.set(denied={"*": [action]})
    text = publish(checkout, code=8)
    assert f"may not call {action} in us-east-1" in text
    assert f"may not call {action} in {REGIONS[1]}" in text or "dynamodb" in action
    aws.set(denied={})
    for region in REGIONS:
        assert RegionState(region).parameter("latest") is None, region
    publish(checkout)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


def test_a_region_that_does_not_exist_or_is_not_enabled(checkout: Checkout, build: Path, aws: Emulator) -> None:
    checkout.define("publish: {regions: [us-east-1, eu-wset-1]}\n")
    assert "unknown region `eu-wset-1`; did you mean `eu-west-1`?" in publish(checkout, code=2)
    assert aws.calls() == []
    checkout.define("publish: {regions: [us-east-1, us-west-2]}\n")
    aws.set(disabled_regions=["us-west-2"])
    text = publish(checkout, code=8)
    assert "the account has not enabled us-west-2: it refuses the credentials that us-east-1 takes" in text
    aws.set(disabled_regions=[])
    untouched(aws)


# --- one region fails -----------------------------------------------------------------------------------------------

def test_if_one_region_fails_no_pointer_moves(checkout: Checkout, build: Path, faults: Faults, aws: Emulator) -> None:
    faults.add("ec2", "CopyImage", region="us-west-2", error={"code": "InvalidParameterValue", "status": 400})
    text = publish(checkout, code=5)
    assert "no pointer has moved: AWS refused CopyImage in us-west-2" in text
    assert f"`scripts/golden publish {IMAGE} --build {build.name}` continues" in text
    untouched(aws)
    assert len(RegionState("us-east-1").amis()) == 1
    faults.clear()
    publish(checkout, "--build", build.name)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


@pytest.mark.parametrize("rule", [
    {"service": "*", "probability": 0.3, "error": {"code": "ThrottlingException"}},
    pytest.param({"service": "*", "probability": 0.2, "error": {"code": "InternalError", "status": 500}},
                 marks=pytest.mark.slow),
    pytest.param({"service": "*", "probability": 0.15, "reset": True}, marks=pytest.mark.slow),
], ids=["throttled", "500", "reset"])
def test_faults_that_pass_are_outlasted(
    checkout: Checkout, build: Path, faults: Faults, rule: dict[str, Any],
) -> None:
    """One AMI a region although calls whose answer was lost were sent again."""
    faults.add(**rule)
    ran = checkout.golden("publish", IMAGE)
    faults.clear()
    if ran.code:  # a call that failed ten times in a row: said so, and continued
        assert ran.code == 4, ran.text
        publish(checkout)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


def test_an_answer_that_was_lost_does_not_make_a_second_ami(
    checkout: Checkout, build: Path, faults: Faults,
) -> None:
    """The request arrives, the connection breaks before the answer: the SDK sends it again."""
    for operation in ("RegisterImage", "CreateLaunchTemplate"):
        faults.add("ec2", operation, times=1, response={"abort_frac": 0.3})
    faults.add("dynamodb", "UpdateItem", times=3, response={"abort_frac": 0.3})
    publish(checkout)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)


def test_a_region_that_is_cut_off_stops_before_any_change(
    checkout: Checkout, build: Path, faults: Faults, aws: Emulator,
) -> None:
    faults.add("ssm", "GetParameters", region="us-west-2", error={"code": "InternalServerError", "status": 500})
    text = publish(checkout, code=4)
    assert "nothing is changed: AWS failed at GetParameters in us-west-2" in text
    assert not any(RegionState(region).amis() for region in REGIONS)


# --- what does not take ---------------------------------------------------------------------------------------------

def test_a_parameter_that_ssm_does_not_take(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSM answers 200 and looks at the AMI later."""
    monkeypatch.setattr(pointers, "LATE_S", 1.0)
    name = pointers.channel_name(IMAGE, Channel.LATEST)
    with pytest.raises(StageFailed, match=f"SSM did not take ami-0123456789abcdef0 for {name} within 1 s: it names "
                                          "nothing"):
        pointers.move_channel(boto3.client("ssm", region_name="us-east-1"), name, "ami-0123456789abcdef0", "build 1")


def test_an_ami_that_cannot_be_made_right_is_named(
    checkout: Checkout, build: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has our tags, our snapshot, and a boot mode that EC2 lets nobody change."""
    monkeypatch.setattr(publish_stage, "READ_BACK_S", 0.5)
    checkout.define("publish: {regions: [us-east-1]}\n")
    publish(checkout)
    state = RegionState("us-east-1")
    (ours,) = state.amis().values()
    state.ec2.deregister_image(ImageId=ours["ImageId"])
    other = state.ec2.register_image(
        **{key: ours[key] for key in ("Name", "Description", "Architecture", "RootDeviceName", "VirtualizationType",
                                      "EnaSupport", "ImdsSupport")},
        BootMode="legacy-bios", TagSpecifications=[{"ResourceType": "image", "Tags": ours["Tags"]}],
        BlockDeviceMappings=[{"DeviceName": ours["RootDeviceName"], "Ebs": {
            key: ours["BlockDeviceMappings"][0]["Ebs"][key]
            for key in ("SnapshotId", "VolumeType", "VolumeSize", "DeleteOnTermination")}}])["ImageId"]
    text = publish(checkout, code=5)
    assert f"no pointer has moved: {other} is not what was asked for: boot mode: 'legacy" in text
    assert state.parameter("latest") == ours["ImageId"]


def test_an_ami_of_the_same_build_and_another_disk(checkout: Checkout, build: Path) -> None:
    publish(checkout)
    state = RegionState("us-west-2")
    ami = state.parameter("latest")
    state.ec2.create_tags(Resources=[ami], Tags=[{"Key": "goldenami:disk-sha256", "Value": "0" * 64}])
    assert f"{ami} is named {IMAGE}-{build.name} and is of another disk of the same build" in publish(checkout, code=2)


def test_tags_that_are_lost_come_back(checkout: Checkout, build: Path) -> None:
    """Taken off by a person, or never given by the version that published."""
    publish(checkout)
    state = RegionState("us-west-2")
    ami, (snapshot,) = state.parameter("latest"), state.snapshots()
    state.ec2.delete_tags(Resources=[ami, snapshot["SnapshotId"]], Tags=[{"Key": "goldenami:manifest-sha256"}])
    assert f"correct {ami}: tag goldenami:manifest-sha256: None" in publish(checkout)
    for tagged in (state.amis()[f"{IMAGE}-{build.name}"], *state.snapshots()):
        assert {"Key": "goldenami:manifest-sha256", "Value": "0" * 64} in tagged["Tags"]


# --- two at once ----------------------------------------------------------------------------------------------------

def dynamodb(region: str = "us-east-1") -> Any:
    return boto3.client("dynamodb", region_name=region)


def test_of_two_publishers_one_stops(checkout: Checkout, build: Path) -> None:
    """Of those that make the same build; the image's own lease is for its pointers."""
    other = lease.take_lease(dynamodb(), f"{IMAGE}/{build.name}")
    text = publish(checkout, code=7)
    assert f"is at work on {IMAGE}/{build.name}" in text
    assert "its lease ends in" in text
    assert not any(RegionState(region).amis() for region in REGIONS)
    other.release()
    publish(checkout)
    for region in REGIONS:
        RegionState(region).check([build.name], build.name)
        assert RegionState(region).ledger().latest is not None
        assert [item["image"]["S"] for item in dynamodb(region).scan(TableName=lease.TABLE)["Items"]] == [IMAGE]


def test_who_lost_the_lease_on_a_build_takes_it_from_nobody(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{IMAGE}/{'1' * 12}"
    monkeypatch.setattr(lease, "LIFE_S", 1.0)
    sleeper = lease.take_lease(dynamodb(), name)
    time.sleep(2.1)  # AWS's dates have whole seconds
    winner = lease.take_lease(dynamodb(), name)
    sleeper.release()
    assert lease.read_lease(dynamodb(), name).holder == winner.holder
    winner.release()
    assert dynamodb().scan(TableName=lease.TABLE)["Items"] == []


def test_a_lease_is_had_by_one(aws: Emulator) -> None:
    """The conditional write holds: also between two that have read the same item."""
    first = lease.take_lease(dynamodb(), IMAGE)
    with pytest.raises(Busy, match="is at work on"):
        lease.take_lease(dynamodb(), IMAGE)
    first.renew()
    first.release()
    second = lease.take_lease(dynamodb(), IMAGE)
    assert second.fence == first.fence + 1
    with pytest.raises(Busy, match="took over the lease"):
        first.record(first.ledger.withdraw("0" * 12))
    with pytest.raises(Busy, match="took over the lease"):
        first.renew()


def test_a_late_writer_is_fenced_off(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that slept beyond its lease finds the ledger closed to it, and what it holds stays."""
    monkeypatch.setattr(lease, "LIFE_S", 1.0)
    sleeper = lease.take_lease(dynamodb(), IMAGE)
    time.sleep(2.1)  # AWS's dates have whole seconds
    winner = lease.take_lease(dynamodb(), IMAGE)
    entry = LedgerEntry(build_id="1" * 12, ami="ami-1", baked_at=clock.stamp(), since=clock.stamp(), by="a@b:1",
                        fence=winner.fence, gpu=GpuProof.NONE)
    winner.record(winner.ledger.moved(Channel.LATEST, entry))
    with pytest.raises(Busy):
        sleeper.record(sleeper.ledger.moved(Channel.LATEST, entry.model_copy(update={"build_id": "2" * 12})))
    state = lease.read_lease(dynamodb(), IMAGE)
    assert (state.ledger.latest, state.fence) == (entry, winner.fence)


def test_a_region_that_hangs_costs_no_other_its_lease(
    aws: Emulator, faults: Faults, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Renewals that us-east-1 answers after two seconds do not keep us-west-2 waiting, nor does the last one."""
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    renewed = ("dynamodb:UpdateItem", REGIONS[1])
    with lease.hold_leases(Account(), IMAGE, list(REGIONS)):
        faults.add("dynamodb", "UpdateItem", region=REGIONS[0], latency=2000)
        before = aws.calls().count(renewed)
        until("20 renewals", lambda: aws.calls().count(renewed) >= before + 20, poll_s=0.05)
        hung = len(faults.fired())
    assert hung < 10, "as many renewals where it hangs as where it does not: they take turns"
    for region in REGIONS:
        assert lease.read_lease(dynamodb(region), IMAGE).holder is None, "not let go"


def test_a_region_that_throttles_the_release_is_asked_again(aws: Emulator, faults: Faults) -> None:
    """More refusals in a row than the hasty client outlasts: the next publisher need not wait for the lease's end."""
    with lease.hold_leases(Account(), IMAGE, [REGIONS[0]]):
        faults.add("dynamodb", "UpdateItem", times=HASTY_ATTEMPTS + 1, error={"code": "ThrottlingException"})
    assert len(faults.fired()) == HASTY_ATTEMPTS + 1
    assert lease.read_lease(dynamodb(), IMAGE).holder is None, "not let go"


def test_a_holder_that_died_here_does_not_block(aws: Emulator) -> None:
    dead = lease.take_lease(dynamodb(), IMAGE)
    gone = dead.holder.model_copy(update={"pid": 2**22 - 1, "nonce": "x"})
    dynamodb().update_item(TableName=lease.TABLE, Key={"image": {"S": IMAGE}}, UpdateExpression="SET holder = :holder",
                           ExpressionAttributeValues={":holder": {"S": gone.model_dump_json()}})
    assert lease.take_lease(dynamodb(), IMAGE).fence == dead.fence + 1
