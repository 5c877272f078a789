"""How commands grow with AMIs and regions, against the emulator. `make bench-growth`.

Calls are AWS's and exact; seconds are those of the whole command, from a process that has imported
everything. Server and client share the cores: seconds tell how a command grows, not what AWS takes.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import boto3
from bench import harness
from goldenami.aws import tags
from goldenami.aws.channels import pointers
from support.aws.kill_proxy import KillProxy
from support.builds import builds
from support.builds.builds import IMAGE

REGIONS = (
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-west-1", "eu-west-2",
    "eu-west-3", "eu-central-1", "eu-north-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3",
    "ap-south-1", "ap-southeast-1", "ap-southeast-2", "sa-east-1")
AMIS = (10, 100, 500, 2000)
REGION_COUNTS = (1, 4, 17)
PUBLISH = ("publish", IMAGE, "--allow-missing-families")
COMMANDS = {
    # The command, and by how many days the clock is ahead: after 400 days all but what is named is
    # due.
    "status": (("status", IMAGE), 0.0),
    "publish of nothing new": (PUBLISH, 0.0),
    "retire --dry-run": (("retire", IMAGE, "--dry-run"), 400.0),
}
RETIRE = {f"retire, {step}": (("retire", IMAGE), days)
          for step, days in (("deprecate", 400.0), ("disable", 420.0), ("deregister", 440.0))}


def measure(proxy: KillProxy, root: Path, name: str, size: str) -> dict[str, object]:
    """Seconds and calls of one command."""
    argv, days = (COMMANDS | RETIRE)[name]
    began = time.monotonic()
    code, text = proxy.run(root, *argv, days=days)
    seconds = time.monotonic() - began
    if code:
        raise SystemExit(f"{name} ended with {code}:\n{text}")
    calls = sum(proxy.calls().values())
    harness.show(f"{size}: {name}", seconds, unit=f"s {calls:5} calls")
    return {"size": size, "command": name, "seconds": round(seconds, 2), "calls": calls}


def add_amis(upstream: str, region: str, numbers: range) -> None:
    """Add AMIs of the image to the region, each with snapshot, record and template version."""
    ec2, ebs, ssm = (boto3.client(service, region_name=region, endpoint_url=upstream)
                     for service in ("ec2", "ebs", "ssm"))
    own = ec2.describe_images(Owners=["self"])["Images"]
    first = next(image for image in own if image["Name"].startswith(IMAGE))
    for build_id in (f"{number:012x}" for number in numbers):
        listed = tags.to_list(tags.from_list(first["Tags"]) | {tags.BUILD_ID: build_id})
        snapshot = ebs.start_snapshot(VolumeSize=1, Tags=listed)["SnapshotId"]
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
        ec2.get_waiter("snapshot_completed").wait(
            SnapshotIds=[snapshot], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        ami = ec2.register_image(
            Name=f"{IMAGE}-{build_id}", Architecture="x86_64", RootDeviceName="/dev/xvda",
            VirtualizationType="hvm", EnaSupport=True, ImdsSupport="v2.0",
            TagSpecifications=[{"ResourceType": "image", "Tags": listed}],
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])
        name = pointers.build_name(IMAGE, build_id)
        ssm.put_parameter(Name=name, Value=ami["ImageId"], Type="String")
        ec2.create_launch_template_version(
            LaunchTemplateName=f"golden-{IMAGE}", VersionDescription=f"build {build_id}",
            LaunchTemplateData={"ImageId": ami["ImageId"]})


def published(proxy: KillProxy, folder: Path, regions: int) -> Path:
    """A checkout whose first build is in so many regions."""
    root = builds.copy_definitions(folder)
    builds.define(root, f"publish: {{regions: [{', '.join(REGIONS[:regions])}]}}\n")
    builds.build(root, 1)
    code, text = proxy.run(root, *PUBLISH)
    if code:
        raise SystemExit(text)
    return root


def main() -> None:
    """By AMIs in one region, all of which then retire, and by regions of one AMI each."""
    rows, known = [], 1
    with tempfile.TemporaryDirectory() as name, harness.emulator() as upstream:
        os.environ["GOLDEN_CACHE"] = f"{name}/cache"
        proxy = KillProxy(upstream)
        root = published(proxy, Path(name, "amis"), 1)
        for count in AMIS:
            add_amis(upstream, REGIONS[0], range(known, count))
            known = count
            rows += [measure(proxy, root, command, f"{count} AMIs") for command in COMMANDS]
        rows += [measure(proxy, root, command, f"{known} AMIs") for command in RETIRE]
        for regions in REGION_COUNTS:
            proxy.reset()
            root = published(proxy, Path(name, f"in-{regions}"), regions)
            rows += [measure(proxy, root, command, f"{regions} regions") for command in COMMANDS]
        proxy.close()
    harness.keep("growth", {"rows": rows})


if __name__ == "__main__":
    main()
