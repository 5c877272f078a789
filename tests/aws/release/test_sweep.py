"""What killed runs leave behind, and `golden sweep`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from goldenami.aws import tags
from goldenami.aws.inventory import leftovers
from goldenami.commands.builds import bake_setup
from goldenami.commands.checkout import Checkout as CommandCheckout
from goldenami.core import records
from goldenami.core.errors import GoldenError
from goldenami.core.process import ProcessId
from goldenami.image.bake import bake_plan
from goldenami.model.locked import lockfile
from goldenami.release.retire import sweep
from support.aws import publisher
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount, iso
from support.builds import builds, sample_plan
from support.builds.builds import IMAGE, Checkout
from support.builds.tools import BIN, ROOT, find


def marks(days: float) -> dict[str, str]:
    return {tags.IMAGE: "i", tags.OWNER: "me@host:1", tags.EXPIRES: iso(days)}


class Build:
    """What a build on an instance has made when it is killed."""

    def __init__(self, account: SeededAccount, number: int, own: dict[str, str]) -> None:
        def given(kind: str) -> dict[str, Any]:
            return {"TagSpecifications": tags.specifications(own, kind)} if own else {}

        self.account = account
        self.group = account.ec2.create_security_group(
            GroupName=f"packer_{number}", Description="temporary", **given("security-group")
        )["GroupId"]
        self.key = account.ec2.create_key_pair(KeyName=f"packer_{number}", **given("key-pair"))[
            "KeyPairId"
        ]
        self.instance = account.launch(
            account.ami(number, tagged=False, recorded=False),
            SecurityGroupIds=[self.group],
            KeyName=f"packer_{number}",
            **given("instance"),
        )
        self.volume = account.ec2.create_volume(
            Size=1, AvailabilityZone="us-east-1a", **given("volume")
        )["VolumeId"]
        self.image = account.ami(number + 100, tagged=False, recorded=False)
        if own:
            account.ec2.create_tags(Resources=[self.image], Tags=tags.to_list(own))
        self.snapshot = account.ebs.start_snapshot(VolumeSize=1, Tags=tags.to_list(own))[
            "SnapshotId"
        ]

    def left(self) -> set[str]:
        ec2 = self.account.ec2
        instance_ids = {
            each["InstanceId"]
            for reservation in ec2.describe_instances()["Reservations"]
            for each in reservation["Instances"]
            if each["State"]["Name"] != "terminated"
        }
        instance_ids |= {
            each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]
        } | self.account.snapshots()
        instance_ids |= {each["KeyPairId"] for each in ec2.describe_key_pairs()["KeyPairs"]}
        instance_ids |= {
            each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"]
        }
        instance_ids |= {each["ImageId"] for each in ec2.describe_images(Owners=["self"])["Images"]}
        return instance_ids & self.all()

    def all(self) -> set[str]:
        return {self.group, self.key, self.instance, self.image, self.volume, self.snapshot}


def test_what_has_expired_goes_and_nothing_else(account: SeededAccount, checkout: Checkout) -> None:
    """A name like Packer's is no proof: only the tags are."""
    dead, alive, foreign = (
        Build(account, number, own) for number, own in ((1, marks(-1)), (2, marks(1)), (3, {}))
    )
    dry = checkout.golden("sweep", "--region", account.region, "--dry-run")
    assert (dry.code, dead.left()) == (0, dead.all())
    assert f"remove instance {dead.instance} of me@host:1" in dry.text
    assert f"keep volume {alive.volume} of me@host:1: a run may use it until" in dry.text
    assert foreign.instance not in dry.text
    order = [
        dry.text.index(name)
        for name in (dead.instance, dead.image, dead.volume, dead.snapshot, dead.key, dead.group)
    ]
    assert order == sorted(order), "an instance goes before what it uses"
    said = checkout.run("sweep", "--region", account.region)
    assert (dead.left(), alive.left(), foreign.left()) == (set(), alive.all(), foreign.all())
    assert "6 things removed" in said
    assert "0 things removed" in checkout.golden("sweep", "--region", account.region).text


def test_a_snapshot_that_an_ami_is_made_of_and_a_date_that_is_none_stay(
    account: SeededAccount,
) -> None:
    used = account.snapshot(1, expires=iso(-1), owner="me@host:1")
    account.ami(1, snapshot=used)
    odd = account.snapshot(2, complete=False, expires="tomorrow")
    prepared = sweep.prepare(account.session, [account.region])
    assert {item.id: item.kept for item in prepared.plan.regions[account.region]} == {
        used: "an AMI is made of it",
        odd: "its date of expiry is no time in UTC",
    }
    sweep.execute(account.session, prepared)
    assert {used, odd} <= account.snapshots()


def test_one_refusal_does_not_stop_the_others(account: SeededAccount, aws: Emulator) -> None:
    dead = Build(account, 1, marks(-1))
    aws.set(denied={"*": ["ec2:DeleteVolume"]})
    prepared = sweep.prepare(account.session, [account.region])
    with pytest.raises(GoldenError, match="ec2:DeleteVolume"):
        sweep.execute(account.session, prepared)
    assert dead.left() == {dead.volume}
    aws.set(denied={}, disabled_regions=["eu-west-1"])
    prepared = sweep.prepare(account.session, [account.region, "eu-west-1"])
    with pytest.raises(GoldenError, match="eu-west-1"):
        sweep.execute(account.session, prepared)
    assert dead.left() == set()


# --- a bake on EC2, killed ---

_BAKE = """
import sys
from pathlib import Path
from goldenami.aws.session import Account
from goldenami.image.builders.ec2 import Ec2Builder
from goldenami.core.terminal.progress import Progress
from goldenami.model.locked import lockfile
from goldenami.model.builds.plans import BakePlan
from goldenami.model.operation.residency import AllowedRegions

root, plan = Path(sys.argv[1]), BakePlan.model_validate_json(sys.argv[2])
lock, _ = lockfile.read(plan.lock)
lock = lock.model_copy(update={"frameworks": []})
Ec2Builder(root, Account(AllowedRegions(rules=())), "us-east-1", "m7i.xlarge").bake(
    lock, plan, Progress("bake-ec2", lock.image, root / "none"), force=False)
"""


def test_what_a_killed_bake_leaves_is_found(
    aws: Emulator,
    account: SeededAccount,
    checkout: Checkout,
    tmp_path: Path,
) -> None:
    """Golden and its Packer are killed when the instance runs, at whose address nobody answers."""
    find("packer")
    aws.set(accounts=publisher.ACCOUNTS, pending_s=0)
    publisher.offer(aws.url)
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    records.write_text(
        tmp_path / "out/vars.json",
        records.canonical(bake_plan.role_variables(ROOT, lock, digest)),
    )
    plan = sample_plan.sample(tmp_path, lock, digest).model_copy(
        update={"lock": lockfile.path_of(ROOT, IMAGE)}
    )
    plan.tree.repository.mkdir()
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "scripts")}
    process = subprocess.Popen(
        [sys.executable, "-c", _BAKE, str(ROOT), plan.model_dump_json()],
        env=env,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    said = ""
    while "(m7i.xlarge) in us-east-1" not in said:
        line = process.stderr.readline()
        assert line, said + (tmp_path / "log").read_text(encoding="utf-8")
        said += line
    owner = tags.owner().replace(str(ProcessId.current()), str(ProcessId.of(process.pid)))
    early = checkout.run("sweep", "--region", account.region)
    assert "0 things removed" in early
    for kind in ("instance", "volume", "key-pair", "security-group"):
        assert re.search(rf"keep {kind} \S+ of {owner}: a run may use it until", early), early
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    said = checkout.run("sweep", "--region", account.region)
    assert said.count(f"of {owner}: its run has ended") == 4, said
    assert leftovers.find(account.ec2) == [] and account.ec2.describe_key_pairs()["KeyPairs"] == []
    assert [
        group["GroupName"] for group in account.ec2.describe_security_groups()["SecurityGroups"]
    ] == ["default"]
    assert account.ec2.describe_volumes()["Volumes"] == []


def test_a_region_that_only_a_bake_was_told_of_is_swept_too(checkout: Checkout) -> None:
    """The bake fails in a region that no definition names; its own choice there is what `sweep`
    looks at next."""
    elsewhere = "eu-north-1"
    said = checkout.run("sweep", "--dry-run")
    assert elsewhere not in said
    for _ in range(2):
        bake_setup.ec2_builder(CommandCheckout(checkout.root), builds.lock(IMAGE, 1), elsewhere)
    ran = checkout.golden("sweep", "--dry-run")
    assert ran.text.count(elsewhere) == 1
    assert elsewhere not in checkout.golden("sweep", "--dry-run", "--region", "us-east-1").text


def test_a_snapshot_goes_with_the_ami_that_is_made_of_it(account: SeededAccount) -> None:
    """As a bake on EC2 leaves them that was killed, or never published."""
    used = account.snapshot(1, expires=iso(-1), owner="me@host:1")
    ami = account.ami(1, snapshot=used)
    account.ec2.create_tags(Resources=[ami], Tags=tags.to_list(marks(-1)))
    sweep.execute(account.session, sweep.prepare(account.session, [account.region]))
    assert used not in account.snapshots()
    assert account.ec2.describe_images(Owners=["self"])["Images"] == []
