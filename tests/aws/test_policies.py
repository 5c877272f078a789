"""The policy of each command allows what the command does, and nothing else.

A command runs through all that it can do under exactly its policy, which the emulator enforces; what it asked for is
then compared with what the policy grants.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from ec2_emulator import iam
from goldenami.aws import base_images, notify, tags
from goldenami.aws.remote_store import S3Store
from goldenami.aws.session import Account
from goldenami.bake import bake_inputs
from goldenami.core import records
from goldenami.local import packer
from goldenami.model import lockfile
from support.aws import own_template, publisher, references
from support.aws.emulator import Emulator
from support.aws.fleet import Fleet
from support.aws.seeded_account import SeededAccount
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState
from support.builds.tools import POLICIES, ROOT, complaints, granted, need_disk_tools
from support.drift import cloud_disk
from support.drift.cloud_disk import CloudDisk
from support.ec2 import ec2_builds
from support.security import signing_key

GROUP, KEY_ALIAS = "trainers", "alias/golden"


class Stage:
    """An account and a checkout, and what a command asked for whenever it ran under its policy."""

    def __init__(self, aws: Emulator, checkout: Checkout) -> None:
        self.aws, self.checkout = aws, checkout
        self.asked: set[str] = set()

    def golden(self, *args: str, code: int = 0) -> str:
        """Run `golden` with every right."""
        ran = self.checkout.golden(*args)
        assert ran.code == code or (ran.is_done and not code), ran.text
        return ran.text

    @contextmanager
    def rights(self, command: str) -> Iterator[None]:
        """Have only what the policy of `command` grants, and note what of it was used."""
        before = len(self.aws.asked())
        self.aws.set(allowed={"*": granted(command)})
        yield
        self.aws.set(allowed={})
        self.asked |= {action for actions in self.aws.asked()[before:] for action in actions}

    def under_policy(self, command: str, *args: str, code: int = 0) -> str:
        """Run `golden COMMAND` with the rights of its policy, and note which it used."""
        with self.rights(command):
            ran = self.checkout.golden(command, *args)
        assert ran.code == code, ran.text
        return ran.text

    def build(self, number: int) -> str:
        """The id of a new build."""
        return builds.build(self.checkout.root, number).name


@pytest.fixture
def stage(aws: Emulator, checkout: Checkout) -> Stage:
    return Stage(aws, checkout)


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


def _key() -> None:
    kms = boto3.client("kms")
    kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])


def _group() -> None:
    boto3.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=GROUP, MinSize=1, MaxSize=2, AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": f"golden-{IMAGE}", "Version": "1"})


def _taken_back(stage: Stage, command: str, *args: str, soak: int) -> None:
    """A first move of two regions, of which one fails, so that what is new in the other is removed."""
    stage.checkout.define(f"publish: {{regions: [us-east-1, us-west-2], soak_hours: {soak}, "
                          "launch_template: {instance_type: m7i.large}}\n")
    stage.build(1)
    boto3.client("ec2", "us-west-2").create_launch_template(
        LaunchTemplateName=f"golden-{IMAGE}", VersionDescription=f"build {'0' * 12}",
        LaunchTemplateData={"InstanceType": "m7i.xlarge"})
    if soak:
        stage.golden("publish", IMAGE)
    stage.aws.set(denied={"*": ["ec2:ModifyLaunchTemplate"]})
    assert "no pointer has moved" in stage.under_policy(command, IMAGE, *args, code=8)
    stage.aws.set(denied={})
    assert (RegionState("us-east-1").parameter("latest"), RegionState("us-east-1").template()) == (None, None)


def publish(stage: Stage) -> None:
    """One that is taken back, a second build, a third one that a group takes, a fourth one while it does, one that is
    an AMI elsewhere, and one for a template of the user's.
    """
    _key()
    boto3.client("ec2", "us-west-2").enable_ebs_encryption_by_default()
    _taken_back(stage, "publish", soak=0)
    stage.checkout.define(_rich().replace("instance_refresh", "# instance_refresh"))
    stage.build(2)
    with signing_key.used(signing_key.in_kms("us-east-1")):
        stage.under_policy("publish", IMAGE)
    _group()
    stage.checkout.define(_rich())
    stage.aws.set(refresh_s=3600)
    for number in (3, 4):  # the fourth finds the group on its way to the third
        stage.build(number)
        stage.under_policy("publish", IMAGE)
    ec2_builds.build(stage.checkout.root, 5, "us-west-2")
    stage.under_policy("publish", IMAGE)
    own_template.use(stage.checkout)
    stage.under_policy("publish", IMAGE, "--take-over")


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
    """A first build, and a second one, to which the group goes; then there is nothing left to do."""
    _two_builds(stage, soak=1)
    assert f"refresh of {GROUP}: started" in stage.under_policy("promote", IMAGE, "--now")
    assert f"refresh of {GROUP}" not in stage.under_policy("promote", IMAGE, "--now")
    own_template.use(stage.checkout, soak=1)
    stage.under_policy("promote", IMAGE, "--now", "--take-over")


def rollback(stage: Stage) -> None:
    """To the first build, while the group is on its way to the second; to one that the template never launched, and
    to the first without any template.
    """
    stage.aws.set(refresh_s=3600)
    _two_builds(stage)
    stage.under_policy("rollback", IMAGE)
    stage.checkout.define(_rich(soak=1).replace("kms_key", "# kms_key"))
    third = stage.build(3)
    stage.golden("publish", IMAGE)
    stage.under_policy("rollback", IMAGE, "--to", third, "--now")
    state = RegionState("us-east-1")
    state.ec2.delete_launch_template(LaunchTemplateName=f"golden-{IMAGE}")
    stage.checkout.define(_rich(soak=1).replace("kms_key", "# kms_key").replace("m7i.large", "m7i.xlarge"))
    stage.under_policy("rollback", IMAGE)
    assert state.template() is not None
    own_template.use(stage.checkout)
    stage.under_policy("rollback", IMAGE, "--take-over")


def retire(stage: Stage) -> None:
    """Three builds of which the first, which had no deprecation date, goes, is called back, and goes to its end."""
    stage.checkout.define("publish: {regions: [us-east-1], keep_last: 1, share_with: ['210987654321']}\n")
    stage.aws.set(backdate_days=400)
    build_ids = []
    for number in (1, 2, 3):
        build_ids.append(stage.build(number))
        stage.golden("publish", IMAGE)
    state = RegionState("us-east-1")
    state.ec2.disable_image_deprecation(ImageId=state.amis()[f"{IMAGE}-{build_ids[0]}"]["ImageId"])
    references.by_pinned_parameter(SeededAccount(stage.aws), state.amis()[f"{IMAGE}-{build_ids[2]}"]["ImageId"])
    graceless = ("--max-age-days", "1", "--disable-after-days", "0", "--deregister-after-days", "0", "--release-shared")
    for _ in range(2):
        stage.under_policy("retire", IMAGE, *graceless)
    stage.under_policy("retire", IMAGE, "--restore", build_ids[0])
    for _ in range(3):
        stage.under_policy("retire", IMAGE, *graceless)
    assert f"{IMAGE}-{build_ids[0]}" not in state.amis()


def verify_snapshot(stage: Stage) -> None:
    """A snapshot of this checkout."""
    stage.checkout.define("publish: {regions: [us-east-1]}\n")
    stage.build(1)
    stage.golden("publish", IMAGE)
    stage.under_policy("verify-snapshot", IMAGE)


def verify_provenance(stage: Stage) -> None:
    """An AMI with its blocks."""
    stage.checkout.define("publish: {regions: [us-east-1]}\n")
    public, build = signing_key.make(stage.checkout.root.with_name("key")), stage.build(1)
    with signing_key.used(public.with_suffix("")):
        stage.golden("publish", IMAGE)
    ami = RegionState("us-east-1").parameter(build)
    stage.under_policy("verify-provenance", str(ami), "--key", str(public), "--blocks", "--region", "us-east-1")


def hardware(stage: Stage) -> None:
    """Families as EC2 knows them."""
    stage.under_policy("hardware", "g5", "m7i", "--check", "--region", "us-east-1")


def status(stage: Stage) -> None:
    """An account with a published build, looked at by a person and by a monitor."""
    stage.golden("publish", IMAGE, "--build", stage.build(1))
    stage.under_policy("status", IMAGE)
    stage.under_policy("status", IMAGE, "--check")


def drift(stage: Stage) -> None:
    """A fleet with an instance of an older build, of which a topic is told."""
    Fleet.publish(SeededAccount(stage.aws), stage.checkout).by_version(1)
    topic = boto3.client("sns", "us-east-1").create_topic(Name="golden")["TopicArn"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(notify.TOPIC, topic)
        stage.under_policy("drift", IMAGE, code=6)
    _disk_of_an_instance(stage)


def _disk_of_an_instance(stage: Stage) -> None:
    """A disk compared with its bake, against another disk of this machine and without one."""
    need_disk_tools()
    stage.aws.set(pending_s=0)
    cloud = CloudDisk.publish(SeededAccount(stage.aws), cloud_disk.bake(stage.checkout.root, IMAGE))
    public = signing_key.make(stage.checkout.root.with_name("key"))
    cloud.sign(public.with_suffix(""), stage.checkout.root / f"packer/images/{IMAGE}.yml")
    stage.under_policy("drift", IMAGE, "--instance", cloud.launch(), "--key", str(public))
    cloud.build.disk.unlink()
    stage.under_policy("drift", IMAGE, "--instance", cloud.launch())


def drift_repair(stage: Stage) -> None:
    """An instance alone, and one in a group."""
    stage.aws.set(pending_s=0)
    fleet = Fleet.publish(SeededAccount(stage.aws), stage.checkout)
    for instance in (fleet.by_version(1), fleet.group("web", "2")):
        with stage.rights("drift-repair"):
            ran = stage.checkout.golden("drift", "repair", instance)
        assert ran.code == 0, ran.text


def regions(stage: Stage) -> None:
    """A family everywhere, with its prices and those of Spot."""
    stage.under_policy("regions", "--family", "g5", "--gpu-hours", "1")


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
    ec2.create_security_group(GroupName="packer_1", Description="temporary", **given("security-group"))
    account.snapshot(2, complete=False, expires=expired[tags.EXPIRES])
    ec2.create_tags(Resources=[account.ami(3)], Tags=tags.to_list(expired))
    stage.under_policy("sweep", "--region", "us-east-1")


def watch(stage: Stage) -> None:
    """What it asks AWS beside its sources: the newest base image, and to tell a topic."""
    stage.aws.set(pending_s=0)
    account = SeededAccount(stage.aws)
    name = RegionState("us-east-1").ec2.describe_images(ImageIds=[account.ami(1)])["Images"][0]["Name"]
    topic = boto3.client("sns", "us-east-1").create_topic(Name="golden")["TopicArn"]
    with stage.rights("watch"):
        assert base_images.newest(Account().ec2("us-east-1"), "self", name).name == name
        notify.publish(Account().client("sns", "us-east-1"), topic, "subject", "text")


def store(stage: Stage) -> None:
    """The remote store behind every command: an object that is missing, sent, there already, and read."""
    boto3.client("s3", "us-east-1").create_bucket(Bucket="golden-store")
    source = stage.checkout.root / "package"
    source.write_bytes(b"package")
    remote, digest = S3Store.at(Account().s3("us-east-1"), "s3://golden-store/packages"), records.sha256_file(source)
    with stage.rights("store"):
        assert remote.get(digest, 0) is None
        assert [remote.put(digest, source), remote.put(digest, source)] == [True, False]
        assert b"".join(remote.get(digest, 0) or ()) == b"package"


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "hardware": hardware, "publish": publish, "promote": promote, "rollback": rollback, "retire": retire,
    "verify-snapshot": verify_snapshot, "verify-provenance": verify_provenance,
    "status": status, "drift": drift, "drift-repair": drift_repair,
    "regions": regions, "sweep": sweep, "watch": watch, "store": store}


@pytest.mark.parametrize("command", sorted(SCENARIOS))
def test_a_policy_is_what_its_command_needs(stage: Stage, command: str) -> None:
    SCENARIOS[command](stage)
    assert sorted(stage.asked) == sorted(granted(command))


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.json")), ids=lambda path: path.stem)
def test_a_policy_names_each_action_once_and_none_by_a_pattern(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["Version"] == "2012-10-17"
    assert {statement["Effect"] for statement in document["Statement"]} == {"Allow"}
    names = [statement["Sid"] for statement in document["Statement"]]
    assert len(names) == len(set(names))
    actions = granted(path.stem)
    assert len(actions) == len(set(actions))
    assert not [action for action in actions if "*" in action]
    assert path.stem in SCENARIOS or path.stem in ("bake-ec2", "costs", "drift-inside", "gpu-test", "instance")


# --- the EC2 builder: Packer's own calls ------------------------------------------------------------------------------

PACKERS = {"ec2:StopInstances", "ec2:CreateKeyPair"}
"""What Packer does itself only in this test: nobody is on the instance to turn it off, or needs a key to it."""
_PACKER = """\
  communicator            = "none"
  access_key              = "AKIAEMULATOR00000000"
  secret_key              = "none"
  skip_metadata_api_check = true

  aws_polling {
    delay_seconds = 1
    max_attempts  = 60
  }
}

build {
  sources = ["source.amazon-ebs.ec2"]
}
"""


def _source_of_ec2(folder: Path) -> None:
    """The template's `amazon-ebs` source as it is, but that nobody logs in to what moto launches, or turns it off."""
    known = packer.templates(ROOT, folder)
    for name in ("variables.pkr.hcl", "locals.pkr.hcl", "base_images.json"):
        shutil.copy(known / name, folder)
    text = (known / "golden.pkr.hcl").read_text(encoding="utf-8")
    source = re.search(r'^source "amazon-ebs" "ec2" \{\n.*?^\}\n', text, re.MULTILINE | re.DOTALL)
    assert source is not None
    stops = source[0].replace("disable_stop_instance = true", "disable_stop_instance = false")
    (folder / "golden.pkr.hcl").write_text(stops.removesuffix("}\n") + _PACKER, encoding="utf-8")


@pytest.mark.parametrize("key", ["", KEY_ALIAS])
def test_the_policy_of_the_ec2_builder_has_what_packer_needs(stage: Stage, tmp_path: Path, key: str) -> None:
    _key()
    stage.aws.set(accounts=publisher.ACCOUNTS, pending_s=0)
    publisher.offer(stage.aws.url)
    _source_of_ec2(tmp_path)
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    group = boto3.client("ec2").create_security_group(GroupName="ours", Description="ssh")["GroupId"]
    own = {"key": "", "private_key": "", "groups": [group], "tags": {}, "kms_key": key, "volume_gib": 8}
    variables = bake_inputs.role_variables(ROOT, lock, digest)
    records.write_text(tmp_path / "vars.json", records.canonical({**variables, "golden_ec2": own}))
    before = len(stage.aws.asked())
    stage.aws.set(allowed={"AKIAEMULATOR00000000": [*granted("bake-ec2"), *PACKERS]})
    said = complaints("packer", "build", "-color=false", "-var", f"lock={lockfile.path_of(ROOT, IMAGE)}",
                      "-var", f"vars={tmp_path / 'vars.json'}", "-var", f"ec2_endpoint={stage.aws.url}", str(tmp_path),
                      cwd=tmp_path, env={"CHECKPOINT_DISABLE": "1"})
    assert said == ""
    actions_asked = {action for actions in stage.aws.asked()[before:] for action in actions}
    # What else it grants is verify's and golden's own: test_bake_ec2.py runs all of it.
    assert actions_asked - PACKERS <= set(granted("bake-ec2"))
    assert actions_asked & set(iam.KEY_ACTIONS) == (set(iam.KEY_ACTIONS) if key else set())
