"""Reads one region of an account into a `Topology`.

Every list is read to its end, in the largest pages that AWS allows. If one call fails, the whole
reading fails: in a region that was read in part, less would seem to be in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.calls import batches, pages, tolerate
from goldenami.aws.channels.lease import read_lease
from goldenami.aws.channels.ledger import Ledger
from goldenami.aws.channels.pointers import build_name
from goldenami.aws.channels.pointers import read as read_parameters
from goldenami.aws.images import AmiState, Image
from goldenami.aws.inventory import references
from goldenami.aws.inventory.topology import (
    AccountAmi,
    AccountInstance,
    AccountSnapshot,
    Launcher,
    LauncherKind,
    SnapshotState,
    TemplateUse,
    TemplateVersion,
    Topology,
)
from goldenami.aws.session import Account, Client, translated
from goldenami.aws.tags import optional
from goldenami.core.terminal.meter import Counter
from goldenami.core.worker_pool import WorkerPool

Data = dict[str, Any]
_NO_PARAMETER = ("ParameterNotFound", "ParameterVersionNotFound")
AT_ONCE = 8
"""Calls for one resource's attribute in flight: EC2 takes 100 at once, then 20 a second (EC2 API
reference, "Request throttling", non-mutating actions)."""
ROLLBACK = "the build to roll back to"
"""The name of a pointer that is only in the ledger: the build that a rollback would take `latest`
back to."""
TAGGED = [{"Name": "tag-key", "Values": [tags.IMAGE]}]
NOT_TERMINATED = [
    {
        "Name": "instance-state-name",
        "Values": ["pending", "running", "shutting-down", "stopping", "stopped"],
    }
]
FLEET_ENDED = frozenset({"deleted", "deleted_running", "deleted_terminating", "failed"})
SPOT_FLEET_ENDED = frozenset({"cancelled", "cancelled_running", "cancelled_terminating", "failed"})
SPOT_REQUEST_ENDED = frozenset({"cancelled", "closed", "failed"})
"""With the two before it, the states in which nothing is launched any more ("EC2 Fleet request
states", "Spot Fleet request states", "State changes for a Spot request"). Any other state counts as
use, also a `disabled` Spot request, which waits for its stopped instance to be started."""


def read(account: Account, region: str, image: str, *, tags_suffice: bool = False) -> Topology:
    """Read everything in `region` that can refer to an AMI, and the ledger of `image`.

    Launch permissions are left out: `with_shares` adds them, by a call for each image and snapshot.
    With `tags_suffice` a build's record is assumed to name the AMI whose tags say so. Then only the
    parameters that something launches by are read, which saves a call for every ten others.
    """
    ec2, autoscaling = account.ec2(region), account.autoscaling(region)
    with translated(region):
        all_amis, all_snapshots = tuple(amis(ec2)), tuple(snapshots(ec2))
        ours = {snapshot.id for snapshot in all_snapshots}
        for ami in all_amis:
            if ami.image:
                ours.update(ami.snapshots)
        all_templates, all_launchers = tuple(templates(ec2)), (*groups(autoscaling), *fleets(ec2))
        configurations = _launch_configurations(autoscaling)
        image_refs = [version.image_ref for version in all_templates]
        for launcher in all_launchers:
            image_refs += launcher.image_refs
        named = set(map(references.parameter_of, image_refs))
        values = None
        if tags_suffice:
            values = {
                build_name(ami.image, ami.build_id): ami.id for ami in all_amis if ami.build_id
            }
        ledger = read_lease(account.dynamodb(region), image).ledger
        return Topology(
            region=region,
            amis=all_amis,
            snapshots=all_snapshots,
            published_to=ledger.regions,
            parameters=parameters(account.ssm(region), named - {""}, values),
            templates=all_templates,
            launchers=all_launchers,
            instances=tuple(instances(ec2)),
            configurations={
                name: configuration["ImageId"] for name, configuration in configurations.items()
            },
            configured={
                name: _volumes_of(configuration) for name, configuration in configurations.items()
            },
            volumes=volumes(ec2, ours),
            pointers=pointers(ledger),
        )


def _launch_configurations(autoscaling: Client) -> dict[str, Data]:
    """The launch configurations of a region by name."""
    return {
        configuration["LaunchConfigurationName"]: configuration
        for configuration in pages(
            autoscaling, "describe_launch_configurations", "LaunchConfigurations", 100
        )
    }


def with_shares(
    ec2: Client,
    topology: Topology,
    ami_ids: Iterable[str],
    snapshot_ids: Iterable[str],
    count: Counter = lambda *_: None,
) -> Topology:
    """Return the topology with the launch permissions of these images and the create-volume
    permissions of these snapshots. `count` gets the progress."""
    # No call returns these for many resources, so several calls run at once.
    asks: dict[str, Callable[[str], tuple[str, ...]]] = {
        name: lambda ami_id: tuple(images.accounts_shared_with(ec2, ami_id)) for name in ami_ids
    }
    asks |= {
        name: lambda snapshot_id: _volume_permissions(ec2, snapshot_id) for name in snapshot_ids
    }
    # Images and snapshots are mixed, because EC2 throttles the calls of each kind separately
    # ("Request throttling").
    shares, mixed_ids = (
        dict[str, tuple[str, ...]](),
        sorted(asks, key=lambda name: name.partition("-")[2]),
    )

    def ask(name: str) -> None:
        shares[name] = asks[name](name)
        count(len(shares), len(asks), "shares")

    WorkerPool(AT_ONCE).run(mixed_ids, ask)
    return replace(
        topology,
        shared_snapshots={name: shares[name] for name in shares if name.startswith("snap-")},
        amis=tuple(
            replace(ami, shared_with=shares.get(ami.id, ami.shared_with)) for ami in topology.amis
        ),
    )


def _volume_permissions(ec2: Client, snapshot_id: str) -> tuple[str, ...]:
    with tolerate("InvalidSnapshot.NotFound"):
        answer = ec2.describe_snapshot_attribute(
            SnapshotId=snapshot_id, Attribute="createVolumePermission"
        )
        return tuple(
            sorted(
                next(iter(permission.values()))
                for permission in answer.get("CreateVolumePermissions", [])
            )
        )
    return ()


def pointers(ledger: Ledger) -> dict[str, str]:
    """The AMIs that a ledger names: those of its channels, and the one to roll back to."""
    entries = {"latest": ledger.latest, "candidate": ledger.candidate, ROLLBACK: ledger.previous()}
    return {name: entry.ami for name, entry in entries.items() if entry}


def amis(ec2: Client, *, tagged: bool = False) -> Iterator[AccountAmi]:
    """Yield the account's own images, with `tagged` only those that carry this pipeline's tag."""
    only: Data = {"Filters": TAGGED} if tagged else {}
    for image in pages(
        ec2,
        "describe_images",
        "Images",
        1000,
        Owners=["self"],
        IncludeDisabled=True,
        IncludeDeprecated=True,
        **only,
    ):
        own_tags = tags.from_list(image.get("Tags"))
        devices = [
            device["Ebs"] for device in image.get("BlockDeviceMappings", []) if "Ebs" in device
        ]
        yield AccountAmi(
            id=image["ImageId"],
            name=image.get("Name", ""),
            created=datetime.fromisoformat(image["CreationDate"]),
            state=AmiState(image["State"]),
            image=own_tags.get(tags.IMAGE, ""),
            build_id=own_tags.get(tags.BUILD_ID, ""),
            snapshots=tuple(device["SnapshotId"] for device in devices if "SnapshotId" in device),
            deprecated=optional(image.get("DeprecationTime")),
            announced=optional(own_tags.get(tags.RETIRING)),
            disabled=optional(own_tags.get(tags.DISABLED)),
            protected=image.get("DeregistrationProtection", "disabled") != "disabled",
            last_launched=optional(image.get("LastLaunchedTime")),
            public=image.get("Public", False),
            other_types=Image(image).has_other_types,
            signed=tags.PROVENANCE_SHA256 in own_tags,
            signed_by=own_tags.get(tags.SIGNED_BY, ""),
        )


def snapshots(ec2: Client) -> Iterator[AccountSnapshot]:
    """Yield the account's snapshots that carry this pipeline's tag."""
    # Filtered, because an account may have many thousands of backups.
    for snapshot in pages(
        ec2, "describe_snapshots", "Snapshots", 1000, OwnerIds=["self"], Filters=TAGGED
    ):
        own_tags = tags.from_list(snapshot.get("Tags"))
        stored = own_tags.get(tags.STORED_BYTES, "")
        yield AccountSnapshot(
            id=snapshot["SnapshotId"],
            started=snapshot["StartTime"],
            state=SnapshotState(snapshot["State"]),
            image=own_tags.get(tags.IMAGE, ""),
            build_id=own_tags.get(tags.BUILD_ID, ""),
            expires=optional(own_tags.get(tags.EXPIRES)),
            parent=own_tags.get(tags.PARENT, ""),
            volume_gib=snapshot["VolumeSize"],
            full_bytes=snapshot.get("FullSnapshotSizeInBytes"),
            stored_bytes=int(stored) if stored.isdecimal() else None,
            key=snapshot.get("KmsKeyId", ""),
        )


def public_snapshots(ec2: Client) -> set[str]:
    """The ids of the account's snapshots with this pipeline's tag that everybody may read."""
    return {
        snapshot["SnapshotId"]
        for snapshot in pages(
            ec2,
            "describe_snapshots",
            "Snapshots",
            1000,
            OwnerIds=["self"],
            RestorableByUserIds=["all"],
            Filters=TAGGED,
        )
    }


def templates(ec2: Client) -> Iterator[TemplateVersion]:
    """Yield every version of every launch template."""
    for template in pages(ec2, "describe_launch_templates", "LaunchTemplates", 200):
        own_tags = tags.from_list(template.get("Tags"))
        for version in pages(
            ec2,
            "describe_launch_template_versions",
            "LaunchTemplateVersions",
            200,
            LaunchTemplateId=template["LaunchTemplateId"],
        ):
            yield template_version(
                version, template["LatestVersionNumber"], own_tags.get(tags.IMAGE, "")
            )


def default_versions(ec2: Client) -> Iterator[TemplateVersion]:
    """Yield the default version of every launch template, without a call for each template."""
    for version in pages(
        ec2,
        "describe_launch_template_versions",
        "LaunchTemplateVersions",
        200,
        Versions=["$Default"],
    ):
        yield template_version(version, 0, "")


def template_version(described: Mapping[str, Any], latest: int, image: str) -> TemplateVersion:
    """Convert EC2's description of a version. `latest` is the number of its template's newest
    version, `image` the template's tag."""
    data = described["LaunchTemplateData"]
    return TemplateVersion(
        template_id=described["LaunchTemplateId"],
        template=described["LaunchTemplateName"],
        number=described["VersionNumber"],
        image_ref=data.get("ImageId", ""),
        default=described["DefaultVersion"],
        latest=described["VersionNumber"] == latest,
        image=image,
        snapshots=_volumes_of(data),
    )


def _volumes_of(launch: Mapping[str, Any]) -> tuple[str, ...]:
    devices = (
        mapping.get("Ebs", {}).get("SnapshotId")
        for mapping in launch.get("BlockDeviceMappings", [])
    )
    return tuple(filter(None, devices))


def groups(autoscaling: Client) -> Iterator[Launcher]:
    """Yield the Auto Scaling groups with every template that they may launch from."""
    for group in pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups", 100):
        mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
        yield _launcher(
            LauncherKind.GROUP,
            group["AutoScalingGroupName"],
            {"LaunchTemplateSpecification": group.get("LaunchTemplate")},
            mixed,
        )


def fleets(ec2: Client) -> Iterator[Launcher]:
    """Yield the EC2 Fleets, Spot fleet requests and Spot instance requests that may launch
    again."""
    # EC2 does not list fleets of type `instant`. They launch nothing more, so only their instances
    # count.
    for fleet in pages(ec2, "describe_fleets", "Fleets", 1000):
        if fleet["FleetState"] not in FLEET_ENDED:
            yield _launcher(
                LauncherKind.FLEET, fleet["FleetId"], *fleet.get("LaunchTemplateConfigs", [])
            )
    for request in pages(ec2, "describe_spot_fleet_requests", "SpotFleetRequestConfigs", 1000):
        if request["SpotFleetRequestState"] not in SPOT_FLEET_ENDED:
            config = request["SpotFleetRequestConfig"]
            yield _launcher(
                LauncherKind.SPOT_FLEET,
                request["SpotFleetRequestId"],
                *config.get("LaunchTemplateConfigs", []),
                {"Overrides": config.get("LaunchSpecifications", [])},
            )
    for request in pages(ec2, "describe_spot_instance_requests", "SpotInstanceRequests", 1000):
        if request["State"] not in SPOT_REQUEST_ENDED:
            yield _launcher(
                LauncherKind.SPOT_REQUEST,
                request["SpotInstanceRequestId"],
                {"Overrides": [request.get("LaunchSpecification", {})]},
            )


def _launcher(kind: LauncherKind, name: str, *configs: Mapping[str, Any]) -> Launcher:
    overrides, snapshot_ids = list[Any](), list[str]()
    for config in configs:
        overrides += config.get("Overrides", [])
    for override in overrides:
        snapshot_ids += _volumes_of(override)
    specifications = [entry.get("LaunchTemplateSpecification") for entry in (*configs, *overrides)]
    return Launcher(
        kind=kind,
        name=name,
        templates=tuple(_use(use) for use in specifications if use),
        image_refs=tuple(override["ImageId"] for override in overrides if override.get("ImageId")),
        snapshots=tuple(snapshot_ids),
        types=tuple(row["InstanceType"] for row in overrides if row.get("InstanceType")),
    )


def _use(specification: Mapping[str, str]) -> TemplateUse:
    return TemplateUse(
        specification.get("LaunchTemplateId") or specification["LaunchTemplateName"],
        specification.get("Version", ""),
    )


def instances(ec2: Client) -> Iterator[AccountInstance]:
    """Yield the instances that are not terminated."""
    for reservation in pages(
        ec2, "describe_instances", "Reservations", 1000, Filters=NOT_TERMINATED
    ):
        for instance in reservation["Instances"]:
            own_tags, root = tags.from_list(instance.get("Tags")), _root(instance)
            yield AccountInstance(
                id=instance["InstanceId"],
                image_id=instance["ImageId"],
                type=instance["InstanceType"],
                state=instance["State"]["Name"],
                group=own_tags.get("aws:autoscaling:groupName", ""),
                volume=root.get("VolumeId", ""),
                # Unlike LaunchTime, it does not change when an instance is stopped and started.
                since=root.get("AttachTime", instance.get("LaunchTime")),
                expires=optional(own_tags.get(tags.EXPIRES, "")),
                image=own_tags.get(tags.IMAGE, ""),
                owner=_owner(instance, own_tags),
                template=own_tags.get("aws:ec2launchtemplate:id", ""),
                template_version=own_tags.get("aws:ec2launchtemplate:version", ""),
            )


def _owner(instance: Mapping[str, Any], own_tags: Mapping[str, str]) -> str:
    """Who launched an instance: by its tag, else its group, else its key pair; or ""."""
    candidates = {
        "": own_tags.get(tags.PERSON),
        "group ": own_tags.get("aws:autoscaling:groupName"),
        "key ": instance.get("KeyName"),
    }
    return next((word + name for word, name in candidates.items() if name), "")


def _root(instance: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(
        (
            device["Ebs"]
            for device in instance.get("BlockDeviceMappings", [])
            if device["DeviceName"] == instance.get("RootDeviceName") and "Ebs" in device
        ),
        {},
    )


def volumes(ec2: Client, made_from: Iterable[str]) -> dict[str, str]:
    """The snapshot of each volume that was made from one of these snapshots."""
    snapshot_of = dict[str, str]()
    for snapshot_ids in batches(sorted(made_from)):
        filters = [{"Name": "snapshot-id", "Values": snapshot_ids}]
        for volume in pages(ec2, "describe_volumes", "Volumes", 500, Filters=filters):
            snapshot_of[volume["VolumeId"]] = volume["SnapshotId"]
    return snapshot_of


def volume_gib(ec2: Client, instance_ids: Sequence[str]) -> dict[str, int]:
    """The total size of the volumes of each of these instances, in GiB."""
    sizes: dict[str, int] = {}
    for names in batches(instance_ids):
        for volume in pages(
            ec2,
            "describe_volumes",
            "Volumes",
            500,
            Filters=[{"Name": "attachment.instance-id", "Values": names}],
        ):
            for attachment in volume["Attachments"]:
                name = attachment["InstanceId"]
                sizes[name] = sizes.get(name, 0) + volume["Size"]
    return sizes


def parameters(
    ssm: Client,
    also: Iterable[str] = (),
    values: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The values of every SSM parameter of plain text, and of those in `also`, which may pin a
    version (`/a/b:3`) or be an ARN. `values`, if given, replace the reading of all parameters."""
    if values is not None:
        by_name = dict(values)
    else:
        names = [
            parameter["Name"]
            for parameter in pages(ssm, "describe_parameters", "Parameters", 50)
            # EC2 cannot resolve a SecureString, and reading one would need its key.
            if parameter["Type"] != "SecureString"
        ]
        by_name = read_parameters(ssm, names)
    for name in set(also) - set(by_name):
        with tolerate(*_NO_PARAMETER):
            by_name[name] = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    return by_name
