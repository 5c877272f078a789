"""`packer build` without `golden bake`: Packer's own temporary key and group, and its AMI."""

from __future__ import annotations

from pathlib import Path

import boto3
from goldenami.core import records
from goldenami.image.bake import bake_inputs
from goldenami.model.builds import lockfile
from support.aws import publisher
from support.aws.emulator import Emulator
from support.builds.builds import IMAGE
from support.builds.tools import ROOT, complaints
from support.ec2 import packer_source

HOST = {"CHECKPOINT_DISABLE": "1"}
LARGE = 12
"""GiB of a base AMI with more than the image."""


def test_packer_makes_and_removes_its_own_key_and_group(
    aws: Emulator, tmp_path: Path
) -> None:
    aws.set(accounts=publisher.ACCOUNTS, pending_s=0)
    publisher.offer(aws.url)
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    variables = bake_inputs.role_variables(ROOT, lock, digest)
    variables["golden_base_image"]["gib"] = LARGE
    records.write_text(tmp_path / "roles.json", records.canonical(variables))
    records.write_text(tmp_path / "packer.pkrvars.json", records.canonical({
        "lock": str(lockfile.path_of(ROOT, IMAGE)), "vars": str(tmp_path / "roles.json"),
        "region": "us-east-1", "instance_type": "m7i.xlarge", "ec2_endpoint": aws.url}))
    before = len(aws.calls())
    said = complaints("packer", "build", "-color=false", "-only=*.ec2",
                      f"-var-file={tmp_path / 'packer.pkrvars.json'}",
                      str(packer_source.write(tmp_path)), env=HOST)
    assert said == ""
    ec2 = boto3.client("ec2", "us-east-1")
    (image,) = ec2.describe_images(Owners=["self"])["Images"]
    assert image["Name"] == f"{IMAGE}-{digest[:lockfile.ID_LENGTH]}-builder"
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == LARGE > lock.disk_size_gib
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == [
        "default"]
    asked = {name for name, _ in aws.calls()[before:]}
    assert {"ec2:CreateKeyPair", "ec2:DeleteKeyPair", "ec2:CreateSecurityGroup"} <= asked
