"""How cost grows with AMIs, regions and packages, against the emulator and a synthetic archive. `make bench-growth`.

Prints tables and writes build/bench/growth.json. Calls are AWS's and exact; seconds are those of the whole command,
from a process that has imported everything. Server and client share the machine's cores, so that seconds tell how a
command grows, not what AWS takes. Bakes and verifies are taken from the records of this checkout's builds, if any.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from goldenami.aws import tags
from goldenami.aws.channels import pointers
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.build_records import VerifyRecord
from goldenami.packages import local_repository, mirrors
from goldenami.packages.apt import Deb, store_requests
from goldenami.packages.store import Store
from support.aws.kill_proxy import KillProxy
from support.builds import builds
from support.builds.builds import IMAGE
from support.debian import debrepo
from support.debian.resolver import Resolver

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-west-1", "eu-west-2", "eu-west-3",
           "eu-central-1", "eu-north-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
           "ap-southeast-1", "ap-southeast-2", "sa-east-1")
AMIS = (10, 100, 500, 2000)
"""Each with a snapshot, a record and a version of the template."""
REGION_COUNTS = (1, 4, 17)
PACKAGES = (200, 500, 1000, 2000)
YEAR_DAYS = 400.0
"""How far ahead `retire` looks: everything but what is named is due then."""
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "status": (("status", IMAGE), 0.0),
    "publish of nothing new": (("publish", IMAGE, "--allow-missing-families"), 0.0),
    "retire --dry-run": (("retire", IMAGE, "--dry-run"), YEAR_DAYS),
}
RETIRE: dict[str, tuple[tuple[str, ...], float]] = {
    f"retire, {step}": (("retire", IMAGE), YEAR_DAYS + days)
    for step, days in (("deprecate", 0.0), ("disable", 20.0), ("deregister", 40.0))}
"""The three steps of all that is due, in their order."""
Row = dict[str, Any]


def timed(what: Callable[[], Any]) -> float:
    began = time.monotonic()
    what()
    return round(time.monotonic() - began, 2)


def measure(proxy: KillProxy, root: Path, name: str) -> Row:
    """Seconds and calls of one command."""
    argv, days = (COMMANDS | RETIRE)[name]
    said: list[tuple[int, str]] = []
    seconds = timed(lambda: said.append(proxy.run(root, *argv, days=days)))
    if said[0][0]:
        raise SystemExit(f"{name} ended with {said[0][0]}:\n{said[0][1]}")
    row = {"command": name, "seconds": seconds, "calls": sum(proxy.calls().values())}
    print(row, flush=True)
    return row


def add_amis(upstream: str, region: str, count: int, known: int) -> None:
    """Have `count` AMIs of the image in the region, each as a publish leaves it."""
    ec2, ebs, ssm = (boto3.client(service, region_name=region, endpoint_url=upstream)
                     for service in ("ec2", "ebs", "ssm"))
    first = next(image for image in ec2.describe_images(Owners=["self"])["Images"] if image["Name"].startswith(IMAGE))
    made = dict[str, str]()
    for number in range(known, count):
        listed = tags.to_list(tags.from_list(first["Tags"]) | {tags.BUILD_ID: f"{number:012x}"})
        snapshot = ebs.start_snapshot(VolumeSize=1, Tags=listed)["SnapshotId"]
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
        made[f"{number:012x}"] = snapshot
    for build_id, snapshot in made.items():
        while ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "pending":
            time.sleep(0.2)
        listed = tags.to_list(tags.from_list(first["Tags"]) | {tags.BUILD_ID: build_id})
        ami = ec2.register_image(
            Name=f"{IMAGE}-{build_id}", Architecture="x86_64", RootDeviceName="/dev/xvda", VirtualizationType="hvm",
            EnaSupport=True, ImdsSupport="v2.0", TagSpecifications=[{"ResourceType": "image", "Tags": listed}],
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}])["ImageId"]
        ssm.put_parameter(Name=pointers.build_name(IMAGE, build_id), Value=ami, Type="String")
        ec2.create_launch_template_version(
            LaunchTemplateName=f"golden-{IMAGE}", VersionDescription=f"build {build_id}",
            LaunchTemplateData={"ImageId": ami})


def published(proxy: KillProxy, folder: Path, regions: int) -> Path:
    """A checkout whose first build is in so many regions."""
    root = builds.copy_definitions(folder / f"in-{regions}")
    builds.define(root, f"publish: {{regions: [{', '.join(REGIONS[:regions])}]}}\n")
    builds.build(root, 1)
    code, text = proxy.run(root, "publish", IMAGE, "--allow-missing-families")
    if code:
        raise SystemExit(text)
    return root


def account(proxy: KillProxy, upstream: str, folder: Path) -> tuple[list[Row], list[Row]]:
    """By AMIs in one region, which then retire, and by regions of one AMI each."""
    by_amis, by_regions, known = list[Row](), list[Row](), 1
    root = published(proxy, folder, 1)
    for count in AMIS:
        add_amis(upstream, REGIONS[0], count, known)
        known = count
        by_amis += [{"AMIs": count, **measure(proxy, root, name)} for name in COMMANDS]
    by_amis += [{"AMIs": known, **measure(proxy, root, name)} for name in RETIRE]
    for regions in REGION_COUNTS:
        proxy.reset()
        root = published(proxy, folder / "regions", regions)
        by_regions += [{"regions": regions, **measure(proxy, root, name)} for name in COMMANDS]
    return by_amis, by_regions


def packages(folder: Path) -> list[Row]:
    """What a lock and a bake do for each package before anything is installed."""
    key = debrepo.Key()
    try:
        os.environ[mirrors.keyring_variable("test")] = str(key.keyring)
        made = Resolver(key, folder)
        names = [f"part{number:04}" for number in range(PACKAGES[-1])]
        apt = made.root([debrepo.Package(name, depends=names[number - 1] if number % 10 else "")
                         for number, name in enumerate(names)])
        return [_packages(apt.solve, names[:count], apt.uris, folder / f"{count}") for count in PACKAGES]
    finally:
        key.close()


def _packages(solve: Callable[[list[str]], list[Deb]], names: list[str], uris: Any, folder: Path) -> Row:
    store, debs = Store(CachePaths(folder).root), list[Deb]()

    def write() -> None:
        local_repository.write(store, debs, folder / "repository", suite="stable", epoch=debrepo.DATE)

    return {"packages": len(names), "apt's closure": timed(lambda: debs.extend(solve(names))),
            "fetch": timed(lambda: store.fetch(store_requests(debs, uris))), "repository": timed(write),
            "repository again": timed(write)}


def recorded() -> list[Row]:
    """Bakes and verifies of this checkout."""
    rows = []
    for folder in sorted((ROOT / "build").glob("*/logs")):
        for build in ImageFolder(folder.parent).builds:
            bake = build.read_bake()
            seen = records.read(build.verify, VerifyRecord).seconds if build.verify.exists() else None
            rows.append({"image": bake.image, "packages": bake.packages_count, "layers reused": len(bake.layers),
                         "GB of data": round(bake.disk.bytes_allocated / 1e9, 1) if bake.disk else None,
                         "bake": bake.seconds, "verify": seen})
    return rows


@contextmanager
def emulator() -> Iterator[str]:
    """A process; its address."""
    process = subprocess.Popen([sys.executable, "-m", "ec2_emulator", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().partition("=")[2]
    finally:
        process.terminate()
        process.wait()


def show(title: str, rows: list[Row]) -> None:
    """One table."""
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def main() -> None:
    """Measure everything."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true",
                   "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    with tempfile.TemporaryDirectory() as folder, emulator() as upstream:
        os.environ["GOLDEN_CACHE"] = f"{folder}/cache"
        proxy = KillProxy(upstream)
        by_amis, by_regions = account(proxy, upstream, Path(folder))
        proxy.close()
        found = {"by AMIs, in one region": by_amis, "by regions": by_regions,
                 "by packages": packages(Path(folder, "packages")), "records of this checkout": recorded()}
    for title, rows in found.items():
        show(title, rows)
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    records.write_text(ROOT / "build/bench/growth.json", records.canonical(found))


if __name__ == "__main__":
    main()
