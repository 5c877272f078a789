"""The policy of each command allows what the command does, and nothing else.

A command runs through all that it can do under exactly its policy, which the emulator enforces.
What it asked for is then compared with what the policy grants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from goldenami.aws import tags
from goldenami.aws.services import metrics, notify
from goldenami.aws.services.remote_store import S3Store
from goldenami.aws.services.site_bucket import SiteBucket
from goldenami.core import clock, records
from support import trees
from support.aws import digest_weeks, references, retirement, unbound
from support.aws.account_template import BOUNDARY, BUCKET, BY_COMMANDS, USERS_BUCKET, document
from support.aws.emulator import Emulator, running
from support.aws.fleet import Fleet
from support.aws.iam_policies import Asked, allows, listed
from support.aws.seeded_account import SeededAccount
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState
from support.builds.tools import POLICIES, granted, need_disk_tools
from support.drift import cloud_disk
from support.drift.cloud_disk import CloudDisk
from support.ec2 import ec2_builds
from support.gpu import candidates
from support.idle.machine import metadata_service
from support.keep.machine import KeepMachine
from support.security import signing_key

GROUP, KEY_ALIAS = "trainers", "alias/golden-ami/images"


class Stage:
    """An account and a checkout, and what a command asked for whenever it ran under its policy."""

    def __init__(self, aws: Emulator, checkout: Checkout) -> None:
        self.aws, self.checkout = aws, checkout
        self.asked: set[str] = set()
        self.questions: list[Asked] = []

    def golden(self, *args: str, code: int = 0) -> str:
        ran = self.checkout.golden(*args)
        assert ran.code == code or (ran.is_done and not code), ran.text
        return ran.text

    @contextmanager
    def rights(self, command: str) -> Iterator[None]:
        """Have only what the policy of `command` grants, and note what of it was used."""
        before, noted = len(self.aws.asked()), len(self.aws.noted())
        self.aws.set(allowed={"*": granted(command)})
        yield
        self.aws.set(allowed={})
        self.questions += self.aws.noted()[noted:]
        self.asked |= {action for actions in self.aws.asked()[before:] for action in actions}

    def under_policy(self, command: str, *args: str, code: int = 0) -> str:
        """Run `golden COMMAND` with the rights of its policy, and note which it used."""
        with self.rights(command):
            ran = self.checkout.golden(command, *args)
        assert ran.code == code, ran.text
        return ran.text

    def build(self, number: int) -> str:
        return builds.build(self.checkout.root, number).name


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The emulator that notes which resources and tags IAM is asked about."""
    with running("support.aws.asked") as found:
        yield found


@pytest.fixture
def stage(aws: Emulator, checkout: Checkout) -> Iterator[Stage]:
    """In an account that encrypts by default, in one region by a key of its own."""
    for region in ("us-east-1", "us-west-2"):
        boto3.client("ec2", region).enable_ebs_encryption_by_default()
    kms = boto3.client("kms", "us-east-1")
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=key["KeyId"])
    boto3.client("ec2", "us-east-1").modify_ebs_default_kms_key_id(KmsKeyId=key["Arn"])
    yield Stage(aws, checkout)
    for region in ("us-east-1", "us-west-2"):
        boto3.client("ec2", region).disable_ebs_encryption_by_default()


def _rich(*, soak: int = 0) -> str:
    return f"""\
        publish:
          regions: [us-east-1]
          share_with: ["210987654321"]
          deregistration_protection: true
          soak_hours: {soak}
          kms_key: {KEY_ALIAS}
          launch_template: {{instance_type: m7i.large}}
          instance_refresh: {{groups: [{GROUP}]}}
        """


def _group() -> None:
    boto3.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        MinSize=1,
        MaxSize=2,
        AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": f"golden-{IMAGE}", "Version": "1"},
        Tags=[{"Key": tags.CLUSTER, "Value": IMAGE, "PropagateAtLaunch": True}],
    )


def _taken_back(stage: Stage, command: str, *args: str, soak: int) -> None:
    """A first move of two regions, of which one fails, so that what is new in the other is
    removed."""
    stage.checkout.define(
        f"publish: {{regions: [us-east-1, us-west-2], soak_hours: {soak}, "
        "launch_template: {instance_type: m7i.large}}\n"
    )
    stage.build(1)
    boto3.client("ec2", "us-west-2").create_launch_template(
        LaunchTemplateName=f"golden-{IMAGE}",
        VersionDescription=f"build {'0' * 12}",
        LaunchTemplateData={"InstanceType": "m7i.xlarge"},
        TagSpecifications=tags.specifications({tags.IMAGE: IMAGE}, "launch-template"),
    )
    if soak:
        stage.golden("publish", IMAGE)
    stage.aws.set(denied={"*": ["ec2:ModifyLaunchTemplate"]})
    assert "no pointer has moved" in stage.under_policy(command, IMAGE, *args, code=8)
    stage.aws.set(denied={})
    state = RegionState("us-east-1")
    assert (state.parameter("latest"), state.template()) == (None, None)


def publish(stage: Stage) -> None:
    """One that is taken back, a second build, a third one that a group takes, a fourth one while it
    does, one that is an AMI elsewhere, whose copy fails at first, and one for a template of the
    user's.
    """
    _taken_back(stage, "publish", soak=0)
    stage.checkout.define(_rich().replace("instance_refresh", "# instance_refresh"))
    stage.build(2)
    with signing_key.used(signing_key.in_kms("us-east-1")):
        stage.under_policy("publish", IMAGE)
    _group()
    stage.checkout.define(_rich())
    stage.aws.set(refresh_s=3600)
    for number, code in ((3, 0), (4, 7)):  # the fourth finds the group on its way to the third
        stage.build(number)
        stage.under_policy("publish", IMAGE, code=code)
    ec2_builds.build(stage.checkout.root, 5, "us-west-2")
    stage.aws.set(copies_failed=1)
    stage.under_policy("publish", IMAGE, code=7)
    _security_group(stage.checkout)
    stage.under_policy("publish", IMAGE)


def _security_group(checkout: Checkout, *, soak: int = 0) -> None:
    boto3.client("ec2", "us-east-1").create_security_group(GroupName="front", Description="x")
    checkout.define(
        f"publish: {{regions: [us-east-1], soak_hours: {soak}, left_regions: [us-west-2], "
        "launch_template: {security_groups: [front]}}\n"
    )


def _two_builds(stage: Stage, *, soak: int = 0) -> None:
    """Two builds published in one region, with a group that takes what becomes `latest`."""
    alone = _rich(soak=soak).replace("kms_key", "# kms_key")
    if soak:
        _taken_back(stage, "promote", "--now", soak=soak)
    else:
        stage.build(1)
    stage.checkout.define(alone.replace("instance_refresh", "# instance_refresh"))
    stage.golden("publish", IMAGE)
    if soak:
        stage.under_policy("promote", IMAGE, "--now")  # there is no template yet
    _group()
    stage.checkout.define(alone)
    stage.build(2)
    stage.golden("publish", IMAGE)


def promote(stage: Stage) -> None:
    """A first build, and a second one, to which the group goes; then there is nothing left to do;
    one for GPUs."""
    candidates.under_policy(stage, "promote")
    _two_builds(stage, soak=1)
    assert f"refresh of {GROUP}: started" in stage.under_policy("promote", IMAGE, "--now")
    assert f"refresh of {GROUP}" not in stage.under_policy("promote", IMAGE, "--now")
    _security_group(stage.checkout, soak=1)
    stage.under_policy("promote", IMAGE, "--now")


def rollback(stage: Stage) -> None:
    """To the first build while the group goes to the second, to one that was never launched,
    without a template."""
    candidates.under_policy(stage, "rollback", "--to", "BUILD")
    stage.aws.set(refresh_s=3600)
    _two_builds(stage)
    stage.under_policy("rollback", IMAGE)
    stage.checkout.define(_rich(soak=1).replace("kms_key", "# kms_key"))
    third = stage.build(3)
    stage.golden("publish", IMAGE)
    stage.under_policy("rollback", IMAGE, "--to", third, "--now")
    state = RegionState("us-east-1")
    state.ec2.delete_launch_template(LaunchTemplateName=f"golden-{IMAGE}")
    stage.checkout.define(
        _rich(soak=1).replace("kms_key", "# kms_key").replace("m7i.large", "m7i.xlarge")
    )
    stage.under_policy("rollback", IMAGE)
    assert state.template() is not None
    _security_group(stage.checkout)
    stage.under_policy("rollback", IMAGE)


def retire(stage: Stage) -> None:
    """Three builds of which the first, which had no deprecation date, goes, is called back, and
    goes to its end."""
    stage.checkout.define(
        "publish: {regions: [us-east-1], keep_last: 1, share_with: ['210987654321']}\n"
    )
    stage.aws.set(backdate_days=400)
    build_ids = []
    for number in (1, 2, 3):
        build_ids.append(stage.build(number))
        stage.golden("publish", IMAGE)
    state = RegionState("us-east-1")
    state.ec2.disable_image_deprecation(ImageId=state.amis()[f"{IMAGE}-{build_ids[0]}"]["ImageId"])
    account, first = SeededAccount(stage.aws), state.amis()[f"{IMAGE}-{build_ids[0]}"]["ImageId"]
    references.by_pinned_parameter(account, state.amis()[f"{IMAGE}-{build_ids[2]}"]["ImageId"])
    graceless = (*retirement.GRACELESS, "--release-shared")
    for _ in range(2):
        stage.under_policy("retire", IMAGE, *graceless)
    state.ec2.enable_image(ImageId=first)
    account.point("/somebody/needs/it", first)
    stage.under_policy("retire", IMAGE, *graceless)
    account.ssm.delete_parameter(Name="/somebody/needs/it")
    for _ in range(3):
        stage.under_policy("retire", IMAGE, *graceless)
    assert f"{IMAGE}-{build_ids[0]}" not in state.amis()


def _unencrypted() -> None:
    """Who reads the blocks of an encrypted snapshot needs `kms:Decrypt`, which the pages say and no
    policy has."""
    boto3.client("ec2", "us-east-1").disable_ebs_encryption_by_default()


def verify_provenance(stage: Stage) -> None:
    _unencrypted()
    stage.checkout.define("publish: {regions: [us-east-1]}\n")
    public, build = signing_key.make(stage.checkout.root.with_name("key")), stage.build(1)
    with signing_key.used(public.with_suffix("")):
        stage.golden("publish", IMAGE)
    ami = RegionState("us-east-1").parameter(build)
    stage.under_policy(
        "verify-provenance", str(ami), "--key", str(public), "--blocks", "--region", "us-east-1"
    )


def status(stage: Stage) -> None:
    """With a group that was not refreshed yet."""
    stage.checkout.define(_rich().replace("instance_refresh", "# instance_refresh"))
    stage.golden("publish", IMAGE, "--build", stage.build(1))
    _group()
    stage.golden("publish", IMAGE, "--build", stage.build(2))
    stage.checkout.define(_rich())
    stage.under_policy("status", IMAGE, code=6)


def drift(stage: Stage) -> None:
    """A fleet with an instance of an older build, of which a topic is told."""
    Fleet.publish(SeededAccount(stage.aws), stage.checkout).by_version(1)
    topic = boto3.client("sns", "us-east-1").create_topic(Name="golden-ami")["TopicArn"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(notify.TOPIC, topic)
        stage.under_policy("drift", IMAGE, code=6)
    _disk_of_an_instance(stage)


def _disk_of_an_instance(stage: Stage) -> None:
    """A disk compared with its bake, against another disk of this machine and without one."""
    need_disk_tools()
    _unencrypted()
    stage.aws.set(pending_s=0)
    cloud = CloudDisk.publish(SeededAccount(stage.aws), cloud_disk.bake(stage.checkout.root, IMAGE))
    public = signing_key.make(stage.checkout.root.with_name("key"))
    cloud.sign(public.with_suffix(""))
    stage.under_policy("drift", IMAGE, "--instance", _machine(cloud.launch()), "--key", str(public))
    cloud.build.disk.unlink()
    cloud.account.ec2.import_key_pair(KeyName="ada", PublicKeyMaterial=signing_key.SSH)
    stage.under_policy(
        "drift", IMAGE, "--instance", _machine(cloud.account.launch(cloud.ami, KeyName="ada"))
    )


def _machine(instance: str) -> str:
    """An instance with the tag of the machines that `drift` may look into, as its volumes."""
    ec2 = boto3.client("ec2", "us-east-1")
    found = ec2.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [instance]}]
    )["Volumes"]
    ec2.create_tags(
        Resources=[instance, *(volume["VolumeId"] for volume in found)],
        Tags=tags.to_list({tags.CLUSTER: IMAGE}),
    )
    return instance


def regions(stage: Stage) -> None:
    stage.under_policy("regions", "--family", "g5", "--gpu-hours", "1")
    digest_weeks.send(
        metrics.CPU_PERCENT, "i-1", clock.now() - timedelta(days=1), 1, 50.0, "c7i.large"
    )
    assert "1.0 of 2, on c7i.large i-1" in stage.under_policy("regions", "--measured")


def sweep(stage: Stage) -> None:
    """One expired thing of each kind, and one that an AMI is made of."""
    ec2 = boto3.client("ec2", "us-east-1")
    stage.aws.set(pending_s=0)
    expired = {tags.EXPIRES: "2020-01-01T00:00:00Z", tags.OWNER: "me@host:1"}

    def given(kind: str) -> dict[str, Any]:
        return {"TagSpecifications": tags.specifications(expired, kind)}

    account = SeededAccount(stage.aws)
    account.launch(account.ami(1), **given("instance"))
    ec2.create_volume(Size=1, AvailabilityZone="us-east-1a", **given("volume"))
    ec2.create_key_pair(KeyName="packer_1", **given("key-pair"))
    ec2.create_security_group(
        GroupName="packer_1", Description="temporary", **given("security-group")
    )
    account.snapshot(2, complete=False, expires=expired[tags.EXPIRES])
    ec2.create_tags(Resources=[account.ami(3)], Tags=tags.to_list(expired))
    stage.under_policy("sweep", "--region", "us-east-1")


def watch(stage: Stage) -> None:
    topic = boto3.client("sns", "us-east-1").create_topic(Name="golden-ami")["TopicArn"]
    with stage.rights("watch"):
        notify.publish(unbound.account().client("sns", "us-east-1"), topic, "subject", "text")


def store(stage: Stage) -> None:
    """The remote store behind every command: an object that is missing, sent, there already, and
    read."""
    boto3.client("s3", "us-east-1").create_bucket(Bucket=BUCKET.rpartition(":")[2])
    source = stage.checkout.root / "package"
    source.write_bytes(b"package")
    remote = S3Store.at(
        unbound.account().s3("us-east-1"), f"s3://{BUCKET.rpartition(':')[2]}/store"
    )
    digest = records.sha256_file(source)
    with stage.rights("store"):
        assert remote.get(digest, 0) is None
        assert [remote.put(digest, source), remote.put(digest, source)] == [True, False]
        assert b"".join(remote.get(digest, 0) or ()) == b"package"


def site(stage: Stage) -> None:
    bucket, folder = BUCKET.rpartition(":")[2], stage.checkout.root / "site"
    boto3.client("s3", "us-east-1").create_bucket(Bucket=bucket)
    records.write_text(folder / "image/0123456789ab/report.json", "{}")
    pages = SiteBucket.at(unbound.account().s3("us-east-1"), f"s3://{bucket}/site")
    with stage.rights("site"):
        assert pages.push(folder) == 1
        assert pages.pull(stage.checkout.root / "other", "report.json") == 1


def instance_keep(stage: Stage) -> None:
    """A round of golden-keep, then the files read as a restore does, and parts that are given
    up."""
    bucket = USERS_BUCKET.rpartition(":")[2]
    boto3.client("s3", "us-east-1").create_bucket(Bucket=bucket)
    noted, s3 = len(stage.questions), unbound.account().s3("us-east-1")
    with metadata_service("i-0a00000000000000a") as imds, stage.rights("instance-keep"):
        machine = KeepMachine(stage.checkout.root / "machine", imds, f"s3://{bucket}/vision")
        source = machine.write("model.pt", b"weights" * 2_000_000)
        status = machine.copy()
        assert (status["trouble"], status["safe_files"]) == ("", 1)
        begun = s3.create_multipart_upload(Bucket=bucket, Key="vision/ann/next.pt")
        s3.abort_multipart_upload(
            Bucket=bucket, Key="vision/ann/next.pt", UploadId=begun["UploadId"]
        )
        listed = s3.list_objects_v2(Bucket=bucket, Prefix="vision/ann/")["Contents"]
        assert [each["Key"] for each in listed] == ["vision/ann/model.pt"]
        s3.download_file(bucket, "vision/ann/model.pt", f"{source}.2")
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=bucket, Key="vision/ann/model.pt")
    assert source.read_bytes() == source.with_name("model.pt.2").read_bytes()
    # The emulator knows callers, but no tags of roles.
    role = {"aws:PrincipalTag/goldenami:team": "vision"}
    stage.asked.discard("s3:DeleteObject")
    stage.questions[noted:] = [
        replace(asked, context={**asked.context, **role})
        for asked in stage.questions[noted:]
        if asked.action != "s3:DeleteObject"
    ]


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "publish": publish,
    "promote": promote,
    "rollback": rollback,
    "retire": retire,
    "verify-provenance": verify_provenance,
    "status": status,
    "drift": drift,
    "regions": regions,
    "sweep": sweep,
    "watch": watch,
    "store": store,
    "site": site,
    "instance-keep": instance_keep,
    "digest": digest_weeks.under_policy,
}


AS_FAR_AS_IT_MAY = {
    "sweep": {
        "autoscaling:DescribeAutoScalingGroups",
        "cloudformation:DescribeStacks",
        "dynamodb:GetItem",
        "dynamodb:Scan",
        "ec2:DescribeLaunchTemplates",
        "ssm:DescribeParameters",
    }
}
"""What a command looks at only where it may: what a self-test left takes an administrator."""


@pytest.mark.parametrize("command", sorted(SCENARIOS))
def test_a_policy_is_what_its_command_needs(stage: Stage, command: str) -> None:
    """Each action, and its resources with the tags that they have then, also by the boundary."""
    SCENARIOS[command](stage)
    # ECR's rights are those of a registry's protocol, which the emulator does not speak.
    wanted = [action for action in granted(command) if not action.startswith("ecr:")]
    needless = AS_FAR_AS_IT_MAY.get(command, set())
    assert sorted(stage.asked - needless) == sorted(wanted)
    [policy] = [
        document(name)
        for name, body in BY_COMMANDS.items()
        if command in body["Metadata"]["Commands"]
    ]
    assert len(stage.questions) >= len(wanted)
    assert [asked for asked in stage.questions if not allows([policy], BOUNDARY, asked)] == []


def test_a_policy_names_each_action_once_and_none_by_a_pattern() -> None:
    others = ("bake-ec2", "bake-ec2-packer", "costs", "gpu-test", "hub", "instance")
    for path in trees.scanned(20, POLICIES, "*.json"):
        text = path.read_text(encoding="utf-8")
        assert text.count('"arn') == text.count('"arn:aws:'), "one word names the partition"
        policy = json.loads(text)
        assert policy["Version"] == "2012-10-17", path
        statements = policy["Statement"]
        assert {statement["Effect"] for statement in statements} <= {"Allow", "Deny"}, path
        names = [statement["Sid"] for statement in statements]
        assert len(names) == len(set(names)), path
        rights = [
            (action, resource, json.dumps(statement.get("Condition")))
            for statement in statements
            for action in statement["Action"]
            for resource in listed(statement["Resource"])
        ]
        assert len(rights) == len(set(rights)), path
        assert not [action for action, _, _ in rights if "*" in action], path
        assert path.stem in SCENARIOS or path.stem in others
