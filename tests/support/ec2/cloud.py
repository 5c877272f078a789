"""The account of tests whose instances run here: in a network namespace, with `golden` in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from goldenami.core import records, shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.local.sandbox import namespaces
from goldenami.model.locked import lockfile
from goldenami.packages import store

from support.builds import checkout
from support.builds.tools import BIN, granted
from support.ec2 import ec2_instances

LIMIT_S = 900
REGIONS = ("us-east-1", "us-west-2")
ENV = {
    "AWS_ENDPOINT_URL": ec2_instances.URL,
    "AWS_ACCESS_KEY_ID": ec2_instances.OUR_KEY,
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": REGIONS[0],
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_POLL_DELAY_SECONDS": "4",
}
_DUMP = """
import json, boto3
from support.ec2 import ec2_instances
found = {}
for region in json.loads('%s'):
    ec2, ssm = ec2_instances.client(region=region), ec2_instances.client("ssm", region=region)
    found[region] = {
        "instances": [raw for each in ec2.describe_instances()["Reservations"]
                      for raw in each["Instances"]],
        "volumes": ec2.describe_volumes()["Volumes"], "keys": ec2.describe_key_pairs()["KeyPairs"],
        "groups": ec2.describe_security_groups()["SecurityGroups"],
        "images": ec2.describe_images(Owners=["self"])["Images"],
        "snapshots": ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
        "parameters": {
            row["Name"]: row["Value"] for row in ssm.describe_parameters()["Parameters"] and
            ssm.get_parameters_by_path(Path="/golden-ami", Recursive=True)["Parameters"]}}
found["calls"] = [call for call in ec2_instances.control("GET", "calls")
                  if call["key"] == ec2_instances.OUR_KEY]
print(json.dumps(found, default=str))
"""


class Cloud:
    """An account whose instances run in a network namespace, and what is run in there."""

    def __init__(self, root: Path, namespace: int) -> None:
        self.root, self._enter = root, ["nsenter", f"--net=/proc/{namespace}/ns/net"]

    def golden(self, *args: str, code: int = 0) -> str:
        """Run `golden` in the checkout; returns what it said. It ends with `code`."""
        done = subprocess.run(
            [*self._enter, str(self.root / "scripts/golden"), *args],
            cwd=self.root,
            text=True,
            env=environment(),
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def packer(self, folder: Path) -> str:
        """Run `packer build` in the folder that `--fetch-only` made, by a key that may do all;
        returns what it said."""
        keys = {
            "AWS_ACCESS_KEY_ID": ec2_instances.RUNNERS_KEY,
            "CHECKPOINT_DISABLE": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        argv = [
            "packer",
            "build",
            "-color=false",
            "-only=*.ec2",
            "-var-file=../packer.pkrvars.json",
            "-var",
            f"ec2_endpoint={ec2_instances.URL}",
            "packer",
        ]
        done = subprocess.run(
            [*self._enter, *argv],
            cwd=folder,
            text=True,
            env={**environment(), **keys},
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def account(self) -> dict[str, Any]:
        done = subprocess.run(
            [*self._enter, sys.executable, "-c", _DUMP % json.dumps(REGIONS)],
            text=True,
            env=environment(),
            capture_output=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    paths = ":".join([str(checkout.ROOT / "scripts"), str(checkout.ROOT / "tests")])
    return {**environment, **ENV, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def running_account(
    root: Path,
    work: Path,
    lock_file: Path | None,
    rights: Sequence[str],
    program: ModuleType = ec2_instances,
) -> Iterator[Cloud]:
    """The account, with what the emulated instances are made from: the packages of a lock, if any.
    `program` runs them.

    `rights`: the policies that the checkout `root` has in it; without one it may do all.
    """
    work.mkdir(parents=True)
    if lock_file:
        _write_plan(root, work, lock_file)
    settings = {
        "root": str(root),
        "work": str(work),
        "allowed": [action for name in rights for action in granted(name)] or ["*"],
    }
    records.write_text(work / "settings.json", json.dumps(settings))
    with namespaces.own_cgroup() as cgroup:
        env = {"PYTHONPATH": f"{checkout.ROOT / 'scripts'}:{checkout.ROOT / 'tests'}"}
        argv = [sys.executable, "-m", program.__name__, str(work / "settings.json")]
        process = shell.start(
            namespaces.joined_argv(cgroup, argv), log=work / "instances.log", env=env
        )
        try:
            _until((work / "ready").exists, lambda: process.poll() is not None, work)
            yield Cloud(root, process.pid)
        finally:
            shell.stop(process, grace_s=0)


def _write_plan(root: Path, work: Path, lock_file: Path) -> None:
    lock, digest = lockfile.read(lock_file)
    here = store.Store(CachePaths.default().folder)
    (work / "plan").mkdir()
    progress = Progress.of("test", lock.image, CachePaths(work))
    BakeInputs(checkout.ROOT, lock, digest, here, progress).fetch()
    inputs = BakeInputs(root, lock, digest, here, progress)
    plan = inputs.plan(work / "plan", work / "plan.log", inputs.repository())
    records.write(work / "bake-plan.json", plan)


def _until(done: Callable[[], bool], dead: Callable[[], bool], work: Path) -> None:
    while not done():
        assert not dead(), (work / "instances.log").read_text(encoding="utf-8")
        time.sleep(0.1)
