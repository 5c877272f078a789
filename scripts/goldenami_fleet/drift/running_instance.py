"""One instance as EC2 describes it: where it runs, which build it should be, and which volumes it
has."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.calls import pages
from goldenami.aws.images import Image
from goldenami.aws.regions import combined_error, for_each_region
from goldenami.aws.session import Account, translated
from goldenami.core.errors import BadInput, NotVerified, Unreachable
from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.model.builds.build_folder import ImageFolder

INSTANCE_ID = re.compile(r"i-[0-9a-f]{8}([0-9a-f]{9})?")
_ENDED = ("terminated", "shutting-down")


@dataclass(frozen=True)
class RunningInstance:
    """An instance that exists. `image` and `build_id` are its AMI's tags, or "" if this pipeline
    did not make the AMI. `volume` is its root volume, `others` are its further ones. `baked` is its
    AMI's snapshot, or "" if the AMI is gone. `owner` is the AMI's account if that is another one,
    or "". `key` is the name of its key pair, `hostname` its private name in EC2."""

    region: str
    instance: str
    ami: str
    image: str
    build_id: str
    disk_sha256: str
    manifest_sha256: str
    volume: str
    baked: str
    owner: str = ""
    key: str = ""
    hostname: str = ""
    others: tuple[str, ...] = ()

    def demand_build(self, image: str) -> None:
        """Raises NotVerified (drift) if its AMI is no build of `image`."""
        if self.image != image or not self.build_id:
            raise NotVerified(
                f"drift: {self.instance} runs {self.ami}, which is no build of {image}",
                hint=replacing(self.region, self.instance),
            )


def replacing(region: str, instance: str) -> str:
    """The hint on how to replace a machine that one suspects."""
    return (
        f"`aws ec2 terminate-instances --region {region} --instance-ids {instance}` ends the "
        "machine; its group launches another, else you do"
    )


def find(account: Account, regions: Iterable[str], instance: str) -> RunningInstance:
    """Return the instance with that id in one of `regions`.

    Raises BadInput if there is none, and Unreachable if it has ended, or if a region that may have
    it did not answer.
    """
    if not INSTANCE_ID.fullmatch(instance):
        raise BadInput(f"`{instance}` is no id of an instance", hint="such as i-0123456789abcdef0")
    region_names, quick_account = list(regions), account.with_short_timeouts()
    results = for_each_region(
        region_names, lambda region: _described(quick_account, region, instance)
    )
    for region, described in results.done.items():
        if described is not None:
            return _target(account, region, described)
    # A region that did not answer may have the instance: then it is not known to be missing.
    if results.failed:
        raise combined_error(results.failed, f"{instance} was not found", "then run again", {})
    raise BadInput(
        f"there is no instance {instance} in "
        f"{', '.join(region_names) or 'any region of the definition'}",
        hint="--region names another region; EC2 forgets an instance about an hour after its end",
    )


def _described(account: Account, region: str, instance: str) -> dict[str, Any] | None:
    with translated(region):
        # With InstanceIds, EC2 refuses an unknown id; a filter just finds nothing.
        for reservation in pages(
            account.ec2(region),
            "describe_instances",
            "Reservations",
            Filters=[{"Name": "instance-id", "Values": [instance]}],
        ):
            return dict(reservation["Instances"][0])
    return None


def _target(account: Account, region: str, described: dict[str, Any]) -> RunningInstance:
    instance, state = described["InstanceId"], described["State"]["Name"]
    if state in _ENDED:
        raise Unreachable(
            f"{instance} in {region} is {state}: there is no disk to look at",
            hint="`golden drift IMAGE` lists the instances that are there",
        )
    with translated(region):
        ec2, ami_id = account.ec2(region), described["ImageId"]
        ami = images.get(ec2, [ami_id]).get(ami_id, Image({}))
        shared = None if ami.raw else images.shared(ec2, ami_id)
    ami_tags, volumes = ami.tags, _volumes(described)
    root = volumes.pop(described.get("RootDeviceName", ""), "")
    return RunningInstance(
        region=region,
        instance=instance,
        ami=described["ImageId"],
        image=ami_tags.get(tags.IMAGE, ""),
        build_id=ami_tags.get(tags.BUILD_ID, ""),
        disk_sha256=ami_tags.get(tags.DISK_SHA256, ""),
        manifest_sha256=ami_tags.get(tags.MANIFEST_SHA256, ""),
        volume=root,
        baked=ami.snapshot if ami.raw else "",
        owner=str(shared.raw["OwnerId"]) if shared else "",
        key=described.get("KeyName", ""),
        hostname=described.get("PrivateDnsName", ""),
        others=tuple(volumes.values()),
    )


def identified(target: RunningInstance, builds: ImageFolder) -> RunningInstance:
    """Return `target`, whose AMI is another account's, with the build that a publish record of this
    machine names for the AMI. Raises Unreachable if no record names it.

    EC2 shows an AMI's tags only to its owner, and a launcher cannot list its snapshot, so `baked`
    is "".
    """
    for build in builds.builds:
        published = build.read_published().get(target.region)
        if published and published.ami == target.ami:
            return replace(
                target,
                image=builds.image,
                build_id=build.build_id,
                baked="",
                disk_sha256=build.read_bake().disk_sha256 or "",
            )
    raise Unreachable(
        f"{target.ami} is shared by account {target.owner}, and no publish record here says which "
        "build it is",
        hint="bring the build's folder with its publish.json from where it was published, below "
        f"{builds.path}",
    )


def launch(account: Account, target: RunningInstance) -> LaunchedWith:
    """Return what the instance was launched with; its key is None if the key pair is gone."""
    with translated(target.region):
        ec2 = account.ec2(target.region)
        user_data = ec2.describe_instance_attribute(
            InstanceId=target.instance, Attribute="userData"
        ).get("UserData", {})
        pairs = []
        if target.key:
            filters = [{"Name": "key-name", "Values": [target.key]}]
            pairs = ec2.describe_key_pairs(IncludePublicKey=True, Filters=filters)["KeyPairs"]
    return LaunchedWith(
        base64.b64decode(user_data.get("Value", "")),
        # The filter may match more: EC2 reads * and ? in a key pair's name as wildcards.
        next((pair.get("PublicKey") for pair in pairs if pair["KeyName"] == target.key), None),
        target.hostname or None,
    )


def _volumes(described: dict[str, Any]) -> dict[str, str]:
    """Return the ids of EBS volumes by device name."""
    return {
        device["DeviceName"]: str(device["Ebs"]["VolumeId"])
        for device in described.get("BlockDeviceMappings", [])
        if "Ebs" in device
    }
