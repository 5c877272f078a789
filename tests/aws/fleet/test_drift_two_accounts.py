"""`golden drift --instance` in an account that launches what another one bakes and shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import records
from support.aws import unbound
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds.builds import IMAGE, Checkout
from support.builds.tools import need_disk_tools
from support.drift import cloud_disk, small_image
from support.drift.cloud_disk import CloudDisk
from support.security import signing_key

REGION, BAKE_KEY, BAKE, LAUNCH = "us-east-1", "AKIABAKE000000000000", "210987654321", "123456789012"
DEFINED = (
    f'publish: {{regions: [{REGION}], account: "{BAKE}", '
    "launch_template: {instance_type: c7i.large}}\n"
)


@pytest.fixture
def cloud(account: SeededAccount, checkout: Checkout, tmp_path: Path, aws: Emulator) -> CloudDisk:
    """The build, published and signed in the bake account; `account` launches."""
    need_disk_tools()
    checkout.define(DEFINED)
    aws.set(accounts={BAKE_KEY: BAKE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", BAKE_KEY)
        patch.setattr("boto3.DEFAULT_SESSION", None)
        bake = SeededAccount(aws, session=unbound.account())
        made = CloudDisk.publish(bake, cloud_disk.bake(checkout.root, IMAGE))
        bake.share(made.ami, LAUNCH)
        signing_key.make(tmp_path / "key")
        made.sign(tmp_path / "key")
    entry = {"ami": made.ami, "snapshot": bake.backing(made.ami)}
    records.write_text(made.build.publish, records.canonical({"regions": {REGION: entry}}))
    return made


def test_the_launch_account_looks_by_the_records_of_the_bake(
    account: SeededAccount,
    cloud: CloudDisk,
    checkout: Checkout,
    tmp_path: Path,
    aws: Emulator,
) -> None:
    """What is signed is read beside the build; what is missing there is said in one line."""
    instance, public = account.launch(cloud.ami), str(tmp_path / "key.pub")
    look = ("drift", IMAGE, "--instance", instance)
    said = checkout.run(*look, "--key", public)
    assert f"the AMI is of account {BAKE}: every block is read" in said
    checkout.run(*look, "--key", str(signing_key.make(tmp_path / "other")), code=6)
    (cloud.build.path / f"provenance/{REGION}.provenance.dsse.json").unlink()
    assert "was published unsigned" in checkout.run(*look, "--key", public, code=6)
    block = small_image.blocks(cloud.build.disk, "/usr/bin/false")
    aws.write(instance, REGION, block * 4096 + (128 << 20), b"x")
    assert "/usr/bin/false" in checkout.run(*look, code=6)
    assert account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    cloud.build.publish.unlink()
    lacks = f"{cloud.ami} is shared by account {BAKE}, and no publish record here says which build"
    assert lacks in checkout.run(*look, code=4)
    other = f"these credentials are of account {LAUNCH}, and the definition wants {BAKE}"
    assert other in checkout.run("drift", IMAGE, code=8)
