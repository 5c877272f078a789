"""The policy of the EC2 builder has what Packer's own calls need."""

from __future__ import annotations

from pathlib import Path

import boto3
from ec2_emulator import iam
from goldenami.aws import tags
from goldenami.core import records
from goldenami.image.bake import bake_plan
from goldenami.model.locked import lockfile
from support.aws import publisher
from support.aws.emulator import Emulator
from support.builds.builds import IMAGE
from support.builds.tools import ROOT, complaints, granted
from support.ec2 import packer_source

KEY_ALIAS = "alias/golden-ami/images"
PACKERS = {"ec2:StopInstances", "ec2:CreateKeyPair"}
"""What Packer does itself only in this test: nobody is on the instance to turn it off, or needs a
key to it."""


def test_the_policy_of_the_ec2_builder_has_what_packer_needs(aws: Emulator, tmp_path: Path) -> None:
    kms = boto3.client("kms")
    kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    aws.set(accounts=publisher.ACCOUNTS, pending_s=0)
    publisher.offer(aws.url)
    templates = packer_source.write(tmp_path)
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    marks = {tags.EXPIRES: "2040-01-01T00:00:00Z", tags.OWNER: "me@host:1"}
    group = boto3.client("ec2").create_security_group(
        GroupName="ours",
        Description="ssh",
        TagSpecifications=tags.specifications(marks, "security-group"),
    )["GroupId"]
    own = {"key": "", "private_key": "", "groups": [group], "tags": marks, "kms_key": KEY_ALIAS}
    variables = bake_plan.role_variables(ROOT, lock, digest)
    records.write_text(tmp_path / "vars.json", records.canonical({**variables, "golden_ec2": own}))
    before = len(aws.asked())
    aws.set(allowed={"AKIAEMULATOR00000000": [*granted("bake-ec2"), *PACKERS]})
    said = complaints(
        "packer",
        "build",
        "-color=false",
        "-var",
        f"lock={lockfile.path_of(ROOT, IMAGE)}",
        "-var",
        f"vars={tmp_path / 'vars.json'}",
        "-var",
        f"ec2_endpoint={aws.url}",
        str(templates),
        env={"CHECKPOINT_DISABLE": "1"},
    )
    assert said == ""
    actions_asked = {action for actions in aws.asked()[before:] for action in actions}
    # What else it grants is verify's and golden's own: test_bake_ec2.py runs all of it.
    assert actions_asked - PACKERS <= set(granted("bake-ec2"))
    assert actions_asked >= set(iam.KEY_ACTIONS)
