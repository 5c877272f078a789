"""`packer build` without `golden bake`: Packer's own temporary key and group, and its AMI."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import boto3
from goldenami.core import records
from goldenami.image.bake import bake_inputs
from goldenami.local import packer
from goldenami.model.builds import lockfile
from support.aws import publisher
from support.aws.emulator import Emulator
from support.builds.builds import IMAGE
from support.builds.tools import ROOT, complaints

HOST = {"CHECKPOINT_DISABLE": "1"}
_HERE = """\
  communicator            = "none"
  access_key              = "AKIAEMULATOR00000000"
  secret_key              = "none"
  skip_metadata_api_check = true
}

build {
  sources = ["source.amazon-ebs.ec2"]
}
"""


def _templates(folder: Path) -> Path:
    """The template's source as it is, but that nobody logs in to what moto launches, or turns it
    off."""
    known = packer.templates(ROOT, folder)
    made = folder / "alone"
    made.mkdir()
    for name in ("variables.pkr.hcl", "locals.pkr.hcl", "base_images.json"):
        shutil.copy(known / name, made)
    text = (known / "golden.pkr.hcl").read_text(encoding="utf-8")
    source = re.search(r'^source "amazon-ebs" "ec2" \{\n.*?^\}\n', text, re.MULTILINE | re.DOTALL)
    assert source is not None
    stops = source[0].replace("disable_stop_instance = true", "disable_stop_instance = false")
    (made / "golden.pkr.hcl").write_text(stops.removesuffix("}\n") + _HERE, encoding="utf-8")
    return made


def test_packer_makes_and_removes_its_own_key_and_group(
    aws: Emulator, tmp_path: Path
) -> None:
    aws.set(accounts=publisher.ACCOUNTS, pending_s=0)
    publisher.offer(aws.url)
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    records.write_text(tmp_path / "roles.json",
                       records.canonical(bake_inputs.role_variables(ROOT, lock, digest)))
    records.write_text(tmp_path / "packer.pkrvars.json", records.canonical({
        "lock": str(lockfile.path_of(ROOT, IMAGE)), "vars": str(tmp_path / "roles.json"),
        "region": "us-east-1", "instance_type": "m7i.xlarge", "ec2_endpoint": aws.url}))
    before = len(aws.calls())
    said = complaints("packer", "build", "-color=false", "-only=*.ec2",
                      f"-var-file={tmp_path / 'packer.pkrvars.json'}", str(_templates(tmp_path)),
                      env=HOST)
    assert said == ""
    ec2 = boto3.client("ec2", "us-east-1")
    (image,) = ec2.describe_images(Owners=["self"])["Images"]
    assert image["Name"] == f"{IMAGE}-{digest[:lockfile.ID_LENGTH]}-builder"
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == [
        "default"]
    asked = {name for name, _ in aws.calls()[before:]}
    assert {"ec2:CreateKeyPair", "ec2:DeleteKeyPair", "ec2:CreateSecurityGroup"} <= asked
