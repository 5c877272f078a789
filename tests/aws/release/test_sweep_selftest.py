"""`golden sweep` after a life like that of `golden selftest`: all of it goes, whatever killed it, and
nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from goldenami.aws import tags
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.aws.services import selftest_leftovers
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.process import ProcessId
from goldenami.model.operation.publish_section import SELFTEST_IMAGE
from goldenami.release.retire import sweep
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy
from support.aws.seeded_account import SeededAccount, iso
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout

HOME = REGIONS[0]
OTHER = f"{SELFTEST_IMAGE}-2"
SWEEP = ("sweep", "--region", REGIONS[0], "--region", REGIONS[1])
STRIDE = 9
"""In the fast tier every ninth place is tried, in the slow one all of them."""


def owner_of(process: ProcessId) -> str:
    return tags.owner().replace(str(ProcessId.current()), str(process))


@pytest.fixture(scope="module")
def killed() -> str:
    """The owner of a run that was killed."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        of_it = ProcessId.of(process.pid)
        process.kill()
    assert of_it is not None
    return owner_of(of_it)


def running() -> str:
    """The owner of a run that goes on."""
    parent = ProcessId.of(os.getppid())
    assert parent is not None
    return owner_of(parent)


def until(days: float, owner: str) -> dict[str, str]:
    return {tags.SELFTEST: f"{iso(days)} {owner}"}


def _listed(region: str) -> Iterator[tuple[str, str]]:
    """Kind and name of each thing in a region."""
    ec2 = boto3.client("ec2", region)
    for reservation in ec2.describe_instances()["Reservations"]:
        for row in reservation["Instances"]:
            if row["State"]["Name"] != "terminated":
                yield LeftoverKind.INSTANCE, row["InstanceId"]
    mine = {"Owners": ["self"], "IncludeDisabled": True}
    for kind, rows, key in (
        (LeftoverKind.IMAGE, ec2.describe_images(**mine)["Images"], "ImageId"),
        (LeftoverKind.VOLUME, ec2.describe_volumes()["Volumes"], "VolumeId"),
        (
            LeftoverKind.SNAPSHOT,
            ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
            "SnapshotId",
        ),
        (LeftoverKind.KEY_PAIR, ec2.describe_key_pairs()["KeyPairs"], "KeyName"),
        (
            LeftoverKind.SECURITY_GROUP,
            ec2.describe_security_groups()["SecurityGroups"],
            "GroupId",
        ),
        (
            LeftoverKind.TEMPLATE,
            ec2.describe_launch_templates()["LaunchTemplates"],
            "LaunchTemplateName",
        ),
        (
            LeftoverKind.GROUP,
            boto3.client("autoscaling", region).describe_auto_scaling_groups()["AutoScalingGroups"],
            "AutoScalingGroupName",
        ),
        (
            LeftoverKind.STACK,
            boto3.client("cloudformation", region).describe_stacks()["Stacks"],
            "StackName",
        ),
        (
            LeftoverKind.PARAMETER,
            boto3.client("ssm", region).describe_parameters(
                ParameterFilters=[{"Key": "Path", "Option": "Recursive", "Values": ["/golden-ami"]}]
            )["Parameters"],
            "Name",
        ),
    ):
        yield from ((kind, row[key]) for row in rows)
    table = boto3.client("dynamodb", region)
    for name in table.list_tables()["TableNames"]:
        for item in table.scan(TableName=name)["Items"]:
            yield LeftoverKind.LEASE, item["image"]["S"]


def everything() -> set[tuple[str, str, str]]:
    return {(region, str(kind), name) for region in REGIONS for kind, name in _listed(region)}


def neighbours(aws: Emulator) -> None:
    """What looks like it, or is still in use, in every region."""
    for region in REGIONS:
        other = SeededAccount(aws, region, OTHER)
        marks = {tags.EXPIRES: iso(1), tags.OWNER: running()}
        ami = other.ami(1)
        other.launch(ami)
        other.template(f"golden-{SELFTEST_IMAGE}-x", [ami], tagged=True)
        other.point(f"/golden-ami/{OTHER}/latest", ami)
        other.group(f"golden-{OTHER}", LaunchTemplate=_template(f"golden-{SELFTEST_IMAGE}-x"))
        other.snapshot(2, expires=iso(1), owner="me@elsewhere:1")
        ec2 = other.ec2
        ec2.create_volume(
            Size=1,
            AvailabilityZone=f"{region}a",
            TagSpecifications=tags.specifications(marks, "volume"),
        )
        ec2.create_key_pair(
            KeyName=OTHER, TagSpecifications=tags.specifications({"selftest": "x"}, "key-pair")
        )
        # As a person would tag by mistake what is another image's.
        ec2.create_tags(Resources=[ami], Tags=tags.to_list(until(-1, "me@host:1")))


def _template(name: str) -> dict[str, str]:
    return {"LaunchTemplateName": name, "Version": "1"}


def define(checkout: Checkout, marks: dict[str, str]) -> None:
    folder = checkout.root / "packer/images"
    text = (folder / f"{IMAGE}.yml").read_text(encoding="utf-8")
    text = text.replace(f"image: {IMAGE}", f"image: {SELFTEST_IMAGE}")
    (folder / f"{SELFTEST_IMAGE}.yml").write_text(text, encoding="utf-8")
    checkout.define(
        f"""\
        publish:
          regions: [{", ".join(REGIONS)}]
          deregistration_protection: true
          launch_template: {{instance_type: m7i.large}}
          tags: {{"{tags.SELFTEST}": "{marks[tags.SELFTEST]}"}}
        """,
        SELFTEST_IMAGE,
    )


def live(checkout: Checkout, aws: Emulator, marks: dict[str, str]) -> None:
    """What such a life makes, by the commands that users type where there is one."""
    define(checkout, marks)
    for number in (1, 2):
        build = builds.build(checkout.root, number, image=SELFTEST_IMAGE)
        checkout.run("publish", SELFTEST_IMAGE)
    ec2 = boto3.client("ec2", HOME)
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    sizes = ("--set", f"Subnets={subnet}", "--set", "MinInstances=1")
    checkout.run("cluster", "apply", SELFTEST_IMAGE, "--region", HOME, *sizes)
    for region in REGIONS:
        beside(region, marks)
    account = SeededAccount(aws, HOME, SELFTEST_IMAGE)
    account.point(f"/golden-ami/{SELFTEST_IMAGE}/{build.name}/gpu-test", "{}")
    oldest = min(account.amis().values(), key=lambda ami: ami.created)
    ec2.disable_image(ImageId=oldest.id)
    # As after a kill while a third build was uploaded.
    account.session.dynamodb(HOME).put_item(
        TableName="golden-ami",
        Item={
            "image": {"S": f"{SELFTEST_IMAGE}/{'0' * 12}"},
            "fence": {"N": "1"},
            "holder": {"S": f"x {marks[tags.SELFTEST].partition(' ')[2]}"},
            "expires": {"N": "9999999999"},
        },
    )


def beside(region: str, marks: dict[str, str]) -> None:
    """What no command makes: a group, an instance, and what these stand on."""

    def given(*kinds: str) -> dict[str, Any]:
        return {"TagSpecifications": tags.specifications(marks, *kinds)}

    ec2, template = boto3.client("ec2", region), _template(f"golden-{SELFTEST_IMAGE}")
    boto3.client("autoscaling", region).create_auto_scaling_group(
        AutoScalingGroupName=SELFTEST_IMAGE,
        MinSize=1,
        MaxSize=1,
        AvailabilityZones=[f"{region}a"],
        LaunchTemplate=template,
        Tags=[
            {"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in marks.items()
        ],
    )
    group = ec2.create_security_group(
        GroupName=SELFTEST_IMAGE, Description="of a test", **given("security-group")
    )["GroupId"]
    ec2.create_key_pair(KeyName=SELFTEST_IMAGE, **given("key-pair"))
    ec2.run_instances(
        LaunchTemplate=template,
        InstanceType="m7i.large",
        MinCount=1,
        MaxCount=1,
        KeyName=SELFTEST_IMAGE,
        SecurityGroupIds=[group],
    )
    ec2.create_volume(Size=1, AvailabilityZone=f"{region}a", **given("volume"))


def test_a_whole_life_goes_and_nothing_else(aws: Emulator, checkout: Checkout, killed: str) -> None:
    aws.set(pending_s=0)
    neighbours(aws)
    before = everything()
    live(checkout, aws, until(1, killed))
    made = everything() - before
    assert {kind for _, kind, _ in made} == {kind.value for kind in LeftoverKind}
    assert len({name for region, _, name in made if region == REGIONS[1]}) > len(LeftoverKind) - 2
    dry = checkout.run(*SWEEP, "--dry-run")
    assert everything() - before == made
    assert f"remove stack golden-cluster-{SELFTEST_IMAGE} of {killed}: its run has ended" in dry
    said = checkout.run(*SWEEP)
    assert everything() == before, said
    assert "0 things removed" in checkout.run(*SWEEP)
