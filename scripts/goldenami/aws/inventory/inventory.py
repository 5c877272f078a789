"""Reading one region of an account into a `Topology`.

Every list is read to its end, in the largest pages that AWS allows. A call that fails fails the
whole reading: a region that was read in part would look as if less were in use.
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
from goldenami.aws.images import AmiState
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
_NO_PARAMETER = ("ParameterNotFound", "ParameterVersionNotFound", "ParameterVersionLabelNotFound")
AT_ONCE = 8
"""Calls for one attribute of one thing under way: EC2 takes 100 at once, then 20 a second (EC2 API
reference, "Request throttling", non-mutating actions)."""
ROLLBACK = "the build to roll back to"
"""The pointer that is none in SSM: what the ledger would take `latest` back to."""
TAGGED = [{"Name": "tag-key", "Values": [tags.IMAGE]}]
NOT_TERMINATED = [
    {
        "Name": "instance-state-name",
        "Values": ["pending", "running", "shutting-down", "stopping", "stopped"],
    }
]
FLEET_ENDED = frozenset({"deleted", "deleted_running", "deleted_terminating", "failed"})
SPOT_FLEET_ENDED = frozenset({"cancelled", "cancelled_running", "cancelled_terminating"})
SPOT_REQUEST_ENDED = frozenset({"cancelled", "closed", "failed"})
"""States in which nothing is launched any more ("EC2 Fleet request states", "Spot Fleet request
states", "State changes for a Spot request"); a state that is not here counts as use. A `disabled`
Spot request only waits for its stopped instance to be started.
"""


def read(account: Account, region: str, image: str, *, tags_suffice: bool = False) -> Topology:
    """Everything in `region` that can refer to an AMI; `image` is whose pointers are read.
    `with_shares` reads who it is shared with: that costs a call for each image and snapshot.

    With `tags_suffice` a build's record is taken to name the AMI whose tags say so, and no
    parameter is read but those that something launches by: ten cost a call.
    """
    ec2, autoscaling = account.ec2(region), account.autoscaling(region)
    with translated(region):
        all_amis, all_snapshots = tuple(amis(ec2)), tuple(snapshots(ec2))
        ours = {snapshot.id for snapshot in all_snapshots}
        ours |= {snapshot_id for ami in all_amis if ami.image for snapshot_id in ami.snapshots}
        all_templates, all_launchers = tuple(templates(ec2)), (*groups(autoscaling), *fleets(ec2))
        configurations = {
            configuration["LaunchConfigurationName"]: configuration
            for configuration in pages(
                autoscaling, "describe_launch_configurations", "LaunchConfigurations", 100
            )
        }
        named = {
            references.parameter_of(ref)
            for ref in [version.image_ref for version in all_templates]
            + [ref for launcher in all_launchers for ref in launcher.image_refs]
        }
        tagged = {build_name(ami.image, ami.build_id): ami.id for ami in all_amis if ami.build_id}
        ledger = read_lease(account.dynamodb(region), image).ledger
        return Topology(
            region=region,
            amis=all_amis,
            snapshots=all_snapshots,
            published_to=ledger.regions,
            parameters=parameters(
                account.ssm(region), named - {""}, tagged if tags_suffice else None
            ),
            templates=all_templates,
            launchers=all_launchers,
            instances=tuple(instances(ec2)),
            configurations={name: each["ImageId"] for name, each in configurations.items()},
            configured={name: _volumes_of(each) for name, each in configurations.items()},
            volumes=volumes(ec2, ours),
            pointers=pointers(ledger),
        )


def with_shares(
    ec2: Client,
    topology: Topology,
    ami_ids: Iterable[str],
    snapshot_ids: Iterable[str],
    count: Counter = lambda *_: None,
) -> Topology:
    """The topology with the launch permissions of these images, and who may make volumes from these
    snapshots.

    No call tells it of many, so some are asked at once, images and snapshots in turn: EC2 counts
    the calls of each kind apart ("Request throttling"). `count` is told how far that is.
    """
    asks: dict[str, Callable[[str], tuple[str, ...]]] = {
        name: lambda ami_id: tuple(images.accounts_shared_with(ec2, ami_id)) for name in ami_ids
    }
    asks |= {
        name: lambda snapshot_id: _volume_permissions(ec2, snapshot_id) for name in snapshot_ids
    }
    found, in_turn = (
        dict[str, tuple[str, ...]](),
        sorted(asks, key=lambda name: name.partition("-")[2]),
    )

    def ask(name: str) -> None:
        found[name] = asks[name](name)
        count(len(found), len(asks), "shares")

    WorkerPool(AT_ONCE).run(in_turn, ask)
    return replace(
        topology,
        shared_snapshots={name: found[name] for name in found if name.startswith("snap-")},
        amis=tuple(
            replace(ami, shared_with=found[ami.id]) if ami.id in found else ami
            for ami in topology.amis
        ),
    )


def _volume_permissions(ec2: Client, snapshot_id: str) -> tuple[str, ...]:
    with tolerate("InvalidSnapshot.NotFound"):
        answer = ec2.describe_snapshot_attribute(
            SnapshotId=snapshot_id, Attribute="createVolumePermission"
        )
        return tuple(
            sorted(next(iter(each.values())) for each in answer.get("CreateVolumePermissions", []))
        )
    return ()


def pointers(ledger: Ledger) -> dict[str, str]:
    """What a ledger names: channels, and the build that a rollback would go back to."""
    entries = {"latest": ledger.latest, "candidate": ledger.candidate, ROLLBACK: ledger.previous()}
    return {name: entry.ami for name, entry in entries.items() if entry}


def amis(ec2: Client, *, tagged: bool = False) -> Iterator[AccountAmi]:
    """The account's own images; `tagged`: those that carry this pipeline's tag."""
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
            signed=tags.PROVENANCE_SHA256 in own_tags,
            signed_by=own_tags.get(tags.SIGNED_BY, ""),
        )


def snapshots(ec2: Client) -> Iterator[AccountSnapshot]:
    """The account's snapshots that carry this pipeline's tag: there may be many thousands of
    backups."""
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
    """Those of the account's snapshots, with this pipeline's tag, that everybody may read."""
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
    """Every version of every launch template."""
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
    """The default version of every launch template, without asking for each template."""
    for version in pages(
        ec2,
        "describe_launch_template_versions",
        "LaunchTemplateVersions",
        200,
        Versions=["$Default"],
    ):
        yield template_version(version, 0, "")


def template_version(described: Mapping[str, Any], latest: int, image: str) -> TemplateVersion:
    """One version as EC2 describes it; `latest` is its template's newest, `image` its tag."""
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
    """Auto Scaling groups with every template that they may launch from."""
    for group in pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups", 100):
        mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
        yield _launcher(
            LauncherKind.GROUP,
            group["AutoScalingGroupName"],
            {"LaunchTemplateSpecification": group.get("LaunchTemplate")},
            mixed,
        )


def fleets(ec2: Client) -> Iterator[Launcher]:
    """EC2 Fleets, Spot fleet requests and Spot instance requests that may launch again.

    A fleet of type `instant` is not listed, and has launched all that it ever will: its instances
    count.
    """
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
    overrides = [override for config in configs for override in config.get("Overrides", [])]
    named = [entry.get("LaunchTemplateSpecification") for entry in (*configs, *overrides)]
    return Launcher(
        kind=kind,
        name=name,
        templates=tuple(_use(use) for use in named if use),
        image_refs=tuple(override["ImageId"] for override in overrides if override.get("ImageId")),
        snapshots=tuple(snapshot for override in overrides for snapshot in _volumes_of(override)),
    )


def _use(specification: Mapping[str, str]) -> TemplateUse:
    return TemplateUse(
        specification.get("LaunchTemplateId") or specification["LaunchTemplateName"],
        specification.get("Version", ""),
    )


def instances(ec2: Client) -> Iterator[AccountInstance]:
    """Instances that are not terminated."""
    for reservation in pages(
        ec2, "describe_instances", "Reservations", 1000, Filters=NOT_TERMINATED
    ):
        for instance in reservation["Instances"]:
            own_tags, root = tags.from_list(instance.get("Tags")), _root(instance)
            yield AccountInstance(
                id=instance["InstanceId"],
                image_id=instance["ImageId"],
                state=instance["State"]["Name"],
                group=own_tags.get("aws:autoscaling:groupName", ""),
                volume=root.get("VolumeId", ""),
                # Unlike LaunchTime, a stop and a start leave it as it is.
                since=root.get("AttachTime", instance.get("LaunchTime")),
                expires=optional(own_tags.get(tags.EXPIRES, "")),
                image=own_tags.get(tags.IMAGE, ""),
                owner=_owner(instance, own_tags),
                template=own_tags.get("aws:ec2launchtemplate:id", ""),
                template_version=own_tags.get("aws:ec2launchtemplate:version", ""),
            )


def _owner(instance: Mapping[str, Any], own_tags: Mapping[str, str]) -> str:
    named = {
        "": own_tags.get(tags.PERSON),
        "group ": own_tags.get("aws:autoscaling:groupName"),
        "key ": instance.get("KeyName"),
    }
    return next((word + name for word, name in named.items() if name), "")


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
    """The snapshot of each volume that was made from one of these."""
    return {
        volume["VolumeId"]: volume["SnapshotId"]
        for snapshot_ids in batches(sorted(made_from))
        for volume in pages(
            ec2,
            "describe_volumes",
            "Volumes",
            500,
            Filters=[{"Name": "snapshot-id", "Values": snapshot_ids}],
        )
    }


def volume_gib(ec2: Client, instance_ids: Sequence[str]) -> dict[str, int]:
    """The size of all volumes of each of these instances."""
    found: dict[str, int] = {}
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
                found[name] = found.get(name, 0) + volume["Size"]
    return found


def parameters(
    ssm: Client,
    also: Iterable[str] = (),
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Every SSM parameter of plain text, and those in `also`, which may pin a version (`/a/b:3`) or
    be an ARN.

    A SecureString is left out: EC2 cannot resolve one, and reading it would need its key. Where
    some are `known`, they stand for all.
    """
    by_name = (
        dict(known)
        if known is not None
        else read_parameters(
            ssm,
            [
                parameter["Name"]
                for parameter in pages(ssm, "describe_parameters", "Parameters", 50)
                if parameter["Type"] != "SecureString"
            ],
        )
    )
    for name in set(also) - set(by_name):
        with tolerate(*_NO_PARAMETER):
            by_name[name] = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    return by_name
