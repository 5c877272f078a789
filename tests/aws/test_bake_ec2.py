"""The EC2 builder from end to end: `golden bake --builder ec2`, verify, publish; the account's instances run here.

support/ec2/ec2_instances.py says what they are; ARCHITECTURE.md says what that proves and what it does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ec2_emulator import iam
from goldenami.bake import bake_inputs
from goldenami.core import records, shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.progress import Progress
from goldenami.local.sandbox import namespaces
from goldenami.model import lockfile
from goldenami.model.build_records import Accel, BakeRecord, BuilderKind, Outcome, Verdict, VerifyRecord
from goldenami.packages import store
from goldenami.publish.publish_records import PublishRecord
from support.builds import checkout
from support.builds.builds import define
from support.builds.tools import granted
from support.ec2 import ec2_instances

IMAGE = "debian-12-ml-cpu"
LIMIT_S = 900
REGIONS = ("us-east-1", "us-west-2")
ENV = {"AWS_ENDPOINT_URL": ec2_instances.URL, "AWS_ACCESS_KEY_ID": ec2_instances.OUR_KEY,
       "AWS_SECRET_ACCESS_KEY": "none",
       "AWS_REGION": REGIONS[0], "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent",
       "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_POLL_DELAY_SECONDS": "1"}
_DUMP = """
import json, boto3
from support.ec2 import ec2_instances
found = {}
for region in json.loads('%s'):
    ec2, ssm = ec2_instances.client(region=region), ec2_instances.client("ssm", region=region)
    found[region] = {
        "instances": [raw for each in ec2.describe_instances()["Reservations"] for raw in each["Instances"]],
        "volumes": ec2.describe_volumes()["Volumes"], "keys": ec2.describe_key_pairs()["KeyPairs"],
        "groups": ec2.describe_security_groups()["SecurityGroups"],
        "images": ec2.describe_images(Owners=["self"])["Images"],
        "snapshots": ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
        "parameters": {row["Name"]: row["Value"] for row in ssm.describe_parameters()["Parameters"] and
                       ssm.get_parameters_by_path(Path="/golden-ami", Recursive=True)["Parameters"]}}
found["calls"] = [call for call in ec2_instances.control("GET", "calls") if call["key"] == ec2_instances.OUR_KEY]
print(json.dumps(found, default=str))
"""


class Cloud:
    """An account whose instances run in a network namespace, and what is run in there."""

    def __init__(self, root: Path, namespace: int) -> None:
        self.root, self._enter = root, ["nsenter", f"--net=/proc/{namespace}/ns/net"]

    def golden(self, *args: str) -> str:
        """Run `golden` in the checkout; returns what it said."""
        done = subprocess.run([*self._enter, str(self.root / "scripts/golden"), *args], cwd=self.root, text=True,
                              env=_env(), capture_output=True, check=False, timeout=LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def account(self) -> dict[str, Any]:
        """What the account holds."""
        done = subprocess.run([*self._enter, sys.executable, "-c", _DUMP % json.dumps(REGIONS)], text=True, env=_env(),
                              capture_output=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _env() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    paths = ":".join([str(checkout.ROOT / "scripts"), str(checkout.ROOT / "tests")])
    return {**environment, **ENV, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose image is the base, limits and tuning, with a lock of today's mirror."""
    copy = checkout.copy(tmp_path / "checkout")
    path = copy / f"packer/images/{IMAGE}.yml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "frameworks" not in line), encoding="utf-8")
    define(copy, f"publish: {{regions: [{', '.join(REGIONS)}]}}\n")
    process = checkout.golden(copy, "lock", IMAGE)
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    return copy


@contextmanager
def running_account(root: Path, work: Path) -> Iterator[Cloud]:
    """The account, with what the emulated instances are made from."""
    lock, digest = lockfile.read(lockfile.path_of(root, IMAGE))
    here, work = store.Store(CachePaths.default().root), work
    (work / "plan").mkdir(parents=True)
    bake_inputs.fetch(lock, here, Progress.of("test", IMAGE, CachePaths(work)))
    plan = bake_inputs.plan(root, lock, digest, bake_inputs.repository(lock, here), work / "plan", work / "plan.log",
                          here.cache.layers)
    records.write(work / "bake-plan.json", plan)
    settings = {"root": str(root), "work": str(work), "plan": str(work / "bake-plan.json"),
                "allowed": [*granted("bake-ec2"), *granted("publish")]}
    records.write_text(work / "settings.json", json.dumps(settings))
    with namespaces.own_cgroup() as cgroup:
        env = {"PYTHONPATH": f"{checkout.ROOT / 'scripts'}:{checkout.ROOT / 'tests'}"}
        program = [sys.executable, "-m", "support.ec2.ec2_instances", str(work / "settings.json")]
        process = shell.start(namespaces.unshare_argv(namespaces.join_argv(cgroup, program)),
                              log=work / "instances.log",
                              env=env)
        try:
            _until((work / "ready").exists, lambda: process.poll() is not None, work)
            yield Cloud(root, process.pid)
        finally:
            shell.stop(process, grace_s=0)


def _until(done: Callable[[], bool], dead: Callable[[], bool], work: Path) -> None:
    while not done():
        assert not dead(), (work / "instances.log").read_text(encoding="utf-8")
        time.sleep(0.1)


@pytest.mark.slow
def test_an_image_baked_on_ec2(root: Path, tmp_path: Path) -> None:
    with running_account(root, tmp_path / "account") as cloud:
        try:
            said = cloud.golden("bake", IMAGE, "--builder", "ec2")
        finally:
            print((tmp_path / "account/instances.log").read_text(encoding="utf-8"))
        baked = cloud.account()
        again = cloud.golden("bake", IMAGE, "--builder", "ec2")
        published = cloud.golden("publish", IMAGE)
        after = cloud.account()
    folder = next(root.glob(f"build/{IMAGE}/[0-9a-f]*/bake.json")).parent
    _records(folder, baked, said)
    _nothing_left(baked)
    assert "verified already" in again
    _published(folder, after, published)
    actions_asked = {action for call in baked["calls"] for action in call["actions"]}
    assert actions_asked == set(granted("bake-ec2")) - set(iam.KEY_ACTIONS), "the image names no key"


def _records(folder: Path, account: dict[str, Any], said: str) -> None:
    bake, verify = records.read(folder / "bake.json", BakeRecord), records.read(folder / "verify.json", VerifyRecord)
    assert bake.builder is BuilderKind.EC2 and bake.disk is None and bake.ami is not None
    assert not (folder / "disk.raw").exists()
    assert [role.name for role in bake.roles] == [
        "os_updates", "kernel", "limits", "network_tuning", "provenance", "seal"]
    images = {image["ImageId"]: image for image in account[REGIONS[0]]["images"]}
    assert list(images) == [bake.ami.id], "the builder's own AMI is gone"
    image = images[bake.ami.id]
    assert (image["Name"], image["BootMode"], image["ImdsSupport"], image["EnaSupport"]) == (
        f"{IMAGE}-{bake.build_id}", "uefi-preferred", "v2.0", True)
    assert (verify.verdict, verify.ami, verify.accel) == (Verdict.VERIFIED, bake.ami.id, Accel.EC2)
    assert [boot.firmware for boot in verify.boots] == ["uefi"]
    assert {check.outcome for check in verify.checks} == {Outcome.CORRECT}
    checks = {check.id for check in verify.checks}
    assert {"boot/packages", "boot/imdsv2", "seal/keys_are_the_launch_s_alone"} <= checks and len(checks) > 50
    assert f"AMI:    {bake.ami.id} in {REGIONS[0]}" in said
    assert (folder / "report.html").exists() and (folder.parent / "latest").readlink() == Path(folder.name)


def _nothing_left(account: dict[str, Any]) -> None:
    """Of the two instances and what was made for them, and of what the killed bake had left."""
    for region in REGIONS:
        held = account[region]
        assert {raw["State"]["Name"] for raw in held["instances"]} <= {"terminated"}
        assert (held["volumes"], held["keys"]) == ([], [])
        assert [group["GroupName"] for group in held["groups"]] == ["default"]
        used = {device["Ebs"]["SnapshotId"] for image in held["images"] for device in image["BlockDeviceMappings"]}
        assert {snapshot["SnapshotId"] for snapshot in held["snapshots"]} == used


def _published(folder: Path, account: dict[str, Any], said: str) -> None:
    """The AMI itself where it was baked, a copy of it elsewhere; the pointers name them, and nothing expires."""
    bake = records.read(folder / "bake.json", BakeRecord)
    published = records.read(folder / "publish.json", PublishRecord)
    assert bake.ami is not None
    assert published.regions[REGIONS[0]].ami == bake.ami.id
    assert f"copy {bake.ami.id} of {REGIONS[0]}" in said
    for region in REGIONS:
        (image,) = account[region]["images"]
        assert (image["ImageId"], image["Name"]) == (published.regions[region].ami, f"{IMAGE}-{bake.build_id}")
        assert account[region]["parameters"][f"/golden-ami/{IMAGE}/latest"] == image["ImageId"]
        keys = [tag["Key"] for thing in (image, *account[region]["snapshots"]) for tag in thing["Tags"]]
        assert "goldenami:build-id" in keys and "goldenami:expires" not in keys
