"""`golden drift --instance` in an account that launches what another one bakes and shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.aws.session import Account
from goldenami.core import records
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds.builds import IMAGE, Checkout, Ran
from support.builds.tools import need_disk_tools
from support.drift import cloud_disk, small_image
from support.drift.cloud_disk import CloudDisk
from support.security import signing_key

REGION, BAKE_KEY, BAKE, LAUNCH = "us-east-1", "AKIABAKE000000000000", "210987654321", "123456789012"
DEFINED = f"publish: {{regions: [{REGION}], account: \"{BAKE}\", launch_template: {{instance_type: c7i.large}}}}\n"


@pytest.fixture
def cloud(account: SeededAccount, checkout: Checkout, tmp_path: Path, aws: Emulator) -> CloudDisk:
    """The build, published and signed in the bake account; `account` launches."""
    need_disk_tools()
    checkout.define(DEFINED)
    aws.set(accounts={BAKE_KEY: BAKE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", BAKE_KEY)
        patch.setattr("boto3.DEFAULT_SESSION", None)
        bake = SeededAccount(aws, session=Account())
        made = CloudDisk.publish(bake, cloud_disk.bake(checkout.root, IMAGE))
        bake.share(made.ami, LAUNCH)
        signing_key.make(tmp_path / "key")
        made.sign(tmp_path / "key", checkout.root / f"packer/images/{IMAGE}.yml")
    entry = {"ami": made.ami, "snapshot": bake.backing(made.ami)}
    records.write_text(made.build.publish, records.canonical({"regions": {REGION: entry}}))
    return made


def look(checkout: Checkout, instance: str, *args: str) -> Ran:
    return checkout.golden("drift", IMAGE, "--instance", instance, *args)


def test_the_launch_account_looks_by_the_records_of_the_bake(
    account: SeededAccount, cloud: CloudDisk, checkout: Checkout, tmp_path: Path, aws: Emulator,
) -> None:
    instance, public = account.launch(cloud.ami), tmp_path / "key.pub"
    ran = look(checkout, instance, "--key", str(public))
    assert (ran.code, f"the AMI is of account {BAKE}: every block is read" in ran.text) == (0, True), ran.text
    aws.write(instance, REGION, small_image.blocks(cloud.build.disk, "/usr/bin/false") * 4096 + (128 << 20), b"x")
    ran = look(checkout, instance)
    assert (ran.code, "/usr/bin/false" in ran.text) == (6, True), ran.text
    assert account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_what_is_signed_is_read_beside_the_build(
    account: SeededAccount, cloud: CloudDisk, checkout: Checkout, tmp_path: Path,
) -> None:
    instance, other = account.launch(cloud.ami), signing_key.make(tmp_path / "other")
    assert look(checkout, instance, "--key", str(other)).code == 6
    (cloud.build.path / f"provenance/{REGION}.provenance.dsse.json").unlink()
    ran = look(checkout, instance, "--key", str(tmp_path / "key.pub"))
    assert (ran.code, "was published unsigned" in ran.text) == (6, True), ran.text


def test_what_is_missing_is_said_in_one_line(
    account: SeededAccount, cloud: CloudDisk, checkout: Checkout,
) -> None:
    instance = account.launch(cloud.ami)
    cloud.build.publish.unlink()
    ran = look(checkout, instance)
    said = f"{cloud.ami} is shared by account {BAKE}, and no publish record here says which build it is"
    assert (ran.code, said in ran.text) == (4, True), ran.text
    ran = checkout.golden("drift", IMAGE)
    said = f"these credentials are of account {LAUNCH}, and the definition wants {BAKE}"
    assert (ran.code, said in ran.text) == (8, True), ran.text
