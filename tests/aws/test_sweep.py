"""What killed runs leave behind, and `golden sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from builds import Checkout
from estate import Estate, iso
from goldenami import sweep
from goldenami.aws import leftovers, tags
from goldenami.aws.leftovers import Kind
from goldenami.errors import GoldenError

if TYPE_CHECKING:
    from conftest import Emulator


def marks(days: float) -> dict[str, str]:
    return {tags.IMAGE: "i", tags.OWNER: "me@host:1", tags.EXPIRES: iso(days)}


class Build:
    """What a build on an instance has made when it is killed."""

    def __init__(self, estate: Estate, number: int, own: dict[str, str]) -> None:
        def given(kind: str) -> dict[str, Any]:
            return {"TagSpecifications": tags.specifications(own, kind)} if own else {}

        self.estate = estate
        self.group = estate.ec2.create_security_group(
            GroupName=f"packer_{number}", Description="temporary", **given("security-group"))["GroupId"]
        self.key = estate.ec2.create_key_pair(KeyName=f"packer_{number}", **given("key-pair"))["KeyPairId"]
        self.instance = estate.launch(estate.ami(number, tagged=False, recorded=False), SecurityGroupIds=[self.group],
                                      KeyName=f"packer_{number}", **given("instance"))
        self.volume = estate.ec2.create_volume(Size=1, AvailabilityZone="us-east-1a", **given("volume"))["VolumeId"]
        self.snapshot = estate.ebs.start_snapshot(VolumeSize=1, Tags=tags.to_list(own))["SnapshotId"]

    def left(self) -> set[str]:
        """What is still there."""
        ec2 = self.estate.ec2
        found = {each["InstanceId"] for reservation in ec2.describe_instances()["Reservations"]
                 for each in reservation["Instances"] if each["State"]["Name"] != "terminated"}
        found |= {each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]} | self.estate.snapshots()
        found |= {each["KeyPairId"] for each in ec2.describe_key_pairs()["KeyPairs"]}
        found |= {each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"]}
        return found & self.all()

    def all(self) -> set[str]:
        return {self.group, self.key, self.instance, self.volume, self.snapshot}


def test_what_has_expired_goes_and_nothing_else(estate: Estate, checkout: Checkout) -> None:
    """A name like Packer's is no proof: only the tags are."""
    dead, alive, foreign = (Build(estate, number, own) for number, own in ((1, marks(-1)), (2, marks(1)), (3, {})))
    dry = checkout.golden("sweep", "--region", estate.region, "--dry-run")
    assert (dry.code, dead.left()) == (0, dead.all())
    assert f"remove instance {dead.instance} of me@host:1" in dry.text
    assert f"keep volume {alive.volume} of me@host:1: a run may use it until" in dry.text
    assert foreign.instance not in dry.text
    order = [dry.text.index(name) for name in (dead.instance, dead.volume, dead.snapshot, dead.key, dead.group)]
    assert order == sorted(order), "an instance goes before what it uses"
    ran = checkout.golden("sweep", "--region", estate.region)
    assert ran.code == 0, ran.text
    assert (dead.left(), alive.left(), foreign.left()) == (set(), alive.all(), foreign.all())
    assert "5 things removed" in ran.text
    assert "0 things removed" in checkout.golden("sweep", "--region", estate.region).text


def test_a_snapshot_that_an_ami_is_made_of_and_a_date_that_is_none_stay(estate: Estate) -> None:
    used = estate.snapshot(1, expires=iso(-1), owner="me@host:1")
    estate.ami(1, snapshot=used)
    odd = estate.snapshot(2, complete=False, expires="tomorrow")
    prepared = sweep.prepare(estate.account, [estate.region])
    assert {item.id: item.kept for item in prepared.plan.regions[estate.region]} == {
        used: "an AMI is made of it", odd: "its date of expiry is no time in UTC"}
    sweep.execute(estate.account, prepared)
    assert {used, odd} <= estate.snapshots()


def test_one_refusal_does_not_stop_the_others(estate: Estate, aws: Emulator) -> None:
    dead = Build(estate, 1, marks(-1))
    aws.set(denied={"*": ["ec2:DeleteVolume"]})
    prepared = sweep.prepare(estate.account, [estate.region])
    with pytest.raises(GoldenError, match="ec2:DeleteVolume"):
        sweep.execute(estate.account, prepared)
    assert dead.left() == {dead.volume}
    aws.set(denied={}, disabled_regions=["eu-west-1"])
    prepared = sweep.prepare(estate.account, [estate.region, "eu-west-1"])
    with pytest.raises(GoldenError, match="eu-west-1"):
        sweep.execute(estate.account, prepared)
    assert dead.left() == set()


def test_what_is_gone_already_is_done(estate: Estate) -> None:
    dead = Build(estate, 1, marks(-1))
    found = leftovers.find(estate.ec2)
    assert [each.kind for each in found] == list(Kind)
    for _ in range(2):
        for each in found:
            leftovers.remove(estate.ec2, each)
    assert dead.left() == set()
