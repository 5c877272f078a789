"""What a life like that of `golden selftest` leaves in an account, and what lies beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import boto3
from goldenami.aws import tags
from goldenami.aws.channels import lease
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.aws.services import stacks
from goldenami.core.process import ProcessId
from goldenami.model.operation.publish_section import SELFTEST_IMAGE

from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount, iso
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout

HOME = REGIONS[0]
OTHER, STACK = f"{SELFTEST_IMAGE}-2", f"golden-cluster-{SELFTEST_IMAGE}"
_TEMPLATE = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
_PATH = {"Key": "Path", "Option": "Recursive", "Values": ["/golden-ami"]}


def owner_of(process: ProcessId | None) -> str:
    return tags.owner().replace(str(ProcessId.current()), str(process))


def _template(name: str) -> dict[str, str]:
    return {"LaunchTemplateName": name, "Version": "1"}


def _listed(region: str) -> Iterator[tuple[str, str]]:
    """Kind and name of each thing in a region, but of terminated instances."""
    ec2, kind = boto3.client("ec2", region), LeftoverKind
    for reservation in ec2.describe_instances()["Reservations"]:
        for row in reservation["Instances"]:
            if row["State"]["Name"] != "terminated":
                yield kind.INSTANCE, row["InstanceId"]
    groups = boto3.client("autoscaling", region).describe_auto_scaling_groups()
    parameters = boto3.client("ssm", region).describe_parameters(ParameterFilters=[_PATH])
    images = ec2.describe_images(Owners=["self"], IncludeDisabled=True)
    for of_kind, answer, rows, key in (
        (kind.IMAGE, images, "Images", "ImageId"),
        (kind.VOLUME, ec2.describe_volumes(), "Volumes", "VolumeId"),
        (kind.SNAPSHOT, ec2.describe_snapshots(OwnerIds=["self"]), "Snapshots", "SnapshotId"),
        (kind.KEY_PAIR, ec2.describe_key_pairs(), "KeyPairs", "KeyName"),
        (kind.SECURITY_GROUP, ec2.describe_security_groups(), "SecurityGroups", "GroupId"),
        (kind.TEMPLATE, ec2.describe_launch_templates(), "LaunchTemplates", "LaunchTemplateName"),
        (kind.GROUP, groups, "AutoScalingGroups", "AutoScalingGroupName"),
        (
            kind.STACK,
            boto3.client("cloudformation", region).describe_stacks(),
            "Stacks",
            "StackName",
        ),
        (kind.PARAMETER, parameters, "Parameters", "Name"),
    ):
        yield from ((of_kind, row[key]) for row in answer[rows])
    table = boto3.client("dynamodb", region)
    for name in table.list_tables()["TableNames"]:
        for item in table.scan(TableName=name)["Items"]:
            yield kind.LEASE, item["image"]["S"]


def everything(*regions: str) -> set[tuple[str, str, str]]:
    """Region, kind and name of each thing in the account."""
    found = {
        (region, str(kind), name) for region in regions or REGIONS for kind, name in _listed(region)
    }
    assert found
    return found


def neighbours(aws: Emulator, killed: str, *regions: str) -> None:
    """What has similar names or tags, or is still in use."""
    running = {
        tags.EXPIRES: iso(1),
        tags.OWNER: owner_of(ProcessId.of(os.getppid())),
    }
    for region in regions or REGIONS:
        other = SeededAccount(aws, region, OTHER)
        ami = other.ami(1)
        # By mistake: it is another image's.
        other.ec2.create_tags(
            Resources=[ami], Tags=tags.to_list({tags.SELFTEST: f"{iso(-1)} {killed}"})
        )
        other.launch(ami)
        other.template(f"golden-{SELFTEST_IMAGE}-x", [ami], tagged=True)
        other.point(f"/golden-ami/{OTHER}/latest", ami)
        other.group(OTHER, LaunchTemplate=_template(f"golden-{SELFTEST_IMAGE}-x"))
        other.snapshot(2, expires=iso(1), owner=killed)  # the next publish goes on with it
        other.ec2.create_volume(
            Size=1,
            AvailabilityZone=f"{region}a",
            TagSpecifications=tags.specifications(running, "volume"),
        )
        other.ec2.create_key_pair(
            KeyName=OTHER, TagSpecifications=tags.specifications({"selftest": "x"}, "key-pair")
        )
        lease.note(other.session.dynamodb(region), OTHER, "x")
    # Somebody looks at the plan of the account's stack.
    _plan(HOME, stacks.ACCOUNT, {})


def _plan(region: str, stack: str, marks: dict[str, str]) -> None:
    boto3.client("cloudformation", region).create_change_set(
        StackName=stack,
        ChangeSetName="x",
        ChangeSetType="CREATE",
        TemplateBody=_TEMPLATE,
        Tags=tags.to_list(marks),
    )


def define(checkout: Checkout, marks: dict[str, str], *regions: str) -> None:
    """Give a checkout the definition of such an image."""
    folder = checkout.root / "packer/images"
    text = (folder / f"{IMAGE}.yml").read_text(encoding="utf-8")
    (folder / f"{SELFTEST_IMAGE}.yml").write_text(
        text.replace(f"image: {IMAGE}", f"image: {SELFTEST_IMAGE}"), encoding="utf-8"
    )
    checkout.define(
        f"""\
        publish:
          regions: [{", ".join(regions)}]
          deregistration_protection: true
          launch_template: {{instance_type: m7i.large}}
          tags: {{"{tags.SELFTEST}": "{marks[tags.SELFTEST]}"}}
        """,
        SELFTEST_IMAGE,
    )


def whole(checkout: Checkout, aws: Emulator, marks: dict[str, str]) -> None:
    """A whole life, by the commands that users type where there is one."""
    define(checkout, marks, *REGIONS)
    for number in (1, 2):
        build = builds.build(checkout.root, number, image=SELFTEST_IMAGE)
        checkout.run("publish", SELFTEST_IMAGE)
    ec2, account = boto3.client("ec2", HOME), SeededAccount(aws, HOME, SELFTEST_IMAGE)
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    sizes = ("--set", f"Subnets={subnet}", "--set", "MinInstances=1")
    checkout.run("cluster", "apply", SELFTEST_IMAGE, "--region", HOME, *sizes)
    # As a kill leaves them between the plan and the change.
    for name in (STACK, stacks.ACCOUNT):
        _plan(REGIONS[1], name, marks)
    for region in REGIONS:
        _beside(region, marks)
    account.point(f"/golden-ami/{SELFTEST_IMAGE}/{build.name}/gpu-test", "{}")
    oldest = min(account.amis().values(), key=lambda ami: ami.created)
    ec2.disable_image(ImageId=oldest.id)
    _unfinished(account, marks, expires=9_999_999_999)


def short(aws: Emulator, marks: dict[str, str]) -> None:
    """One thing of each kind in one region, by calls of AWS."""
    account = SeededAccount(aws, HOME, SELFTEST_IMAGE)
    ami, ec2 = account.ami(1), account.ec2
    template = account.template(f"golden-{SELFTEST_IMAGE}", [ami], tagged=True)
    ec2.create_tags(Resources=[ami, account.backing(ami), template], Tags=tags.to_list(marks))
    ec2.enable_image_deregistration_protection(ImageId=ami)
    account.point(f"/golden-ami/{SELFTEST_IMAGE}/latest", ami)
    boto3.client("cloudformation", HOME).create_stack(
        StackName=STACK,
        TemplateBody=_TEMPLATE,
        Tags=tags.to_list(marks),
    )
    _beside(HOME, marks)
    lease.note(account.session.dynamodb(HOME), SELFTEST_IMAGE, "x")
    _unfinished(account, marks, expires=1)


def _unfinished(account: SeededAccount, marks: dict[str, str], *, expires: int) -> None:
    """As a kill leaves it while a third build is uploaded."""
    account.session.dynamodb(HOME).put_item(
        TableName=lease.TABLE,
        Item={
            "image": {"S": f"{SELFTEST_IMAGE}/{'0' * 12}"},
            "fence": {"N": "1"},
            "holder": {"S": f"x {marks[tags.SELFTEST].partition(' ')[2]}"},
            "expires": {"N": str(expires)},
        },
    )


def _beside(region: str, marks: dict[str, str]) -> None:
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
        **given("instance"),
    )
    ec2.create_volume(Size=1, AvailabilityZone=f"{region}a", **given("volume"))
