"""Reading one region of an account into a `Topology`.

Every list is read to its end, in the largest pages that AWS allows. A call that fails fails the whole reading: a
region that was read in part would look as if less were in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from botocore import exceptions as aws

from goldenami.aws import tags
from goldenami.aws.channels import lease
from goldenami.aws.inventory import references
from goldenami.aws.inventory.topology import (
    AccountAmi,
    AccountInstance,
    AccountSnapshot,
    AmiState,
    Launcher,
    LauncherKind,
    SnapshotState,
    TemplateUse,
    TemplateVersion,
    Topology,
    Volume,
)
from goldenami.aws.session import Account, Client, code, translated

Data = dict[str, Any]
_NO_PARAMETER = frozenset({"ParameterNotFound", "ParameterVersionNotFound", "ParameterVersionLabelNotFound"})
PARAMETERS, FILTER_VALUES = 10, 200
"""Names that one GetParameters takes, and values that one filter of EC2 takes."""
ROLLBACK = "the build to roll back to"
"""The pointer that is none in SSM: what the ledger would take `latest` back to."""
TAGGED = [{"Name": "tag-key", "Values": [tags.IMAGE]}]
NOT_TERMINATED = [{"Name": "instance-state-name",
                   "Values": ["pending", "running", "shutting-down", "stopping", "stopped"]}]
FLEET_ENDED = frozenset({"deleted", "deleted_running", "deleted_terminating", "failed"})
SPOT_FLEET_ENDED = frozenset({"cancelled", "cancelled_running", "cancelled_terminating"})
SPOT_REQUEST_ENDED = frozenset({"cancelled", "closed", "failed"})
"""States in which nothing is launched any more ("EC2 Fleet request states", "Spot Fleet request states", "State changes
for a Spot request"); a state that is not here counts as use. A `disabled` Spot request only waits for its stopped
instance to be started.
"""


def read(account: Account, region: str, image: str) -> Topology:
    """Everything in `region` that can refer to an AMI; `image` is whose pointers are read. Launch permissions are
    not read: they cost a call for each image (`with_shares`).
    """
    ec2, autoscaling = account.ec2(region), account.autoscaling(region)
    with translated(region):
        found_amis, found_snapshots = tuple(amis(ec2)), tuple(snapshots(ec2))
        ours = {snapshot.id for snapshot in found_snapshots}
        ours |= {snapshot_id for ami in found_amis if ami.image for snapshot_id in ami.snapshots}
        found_templates, found_launchers = tuple(templates(ec2)), (*groups(autoscaling), *fleets(ec2))
        configurations = {each["LaunchConfigurationName"]: each["ImageId"] for each in
                          pages(autoscaling, "describe_launch_configurations", "LaunchConfigurations", 100)}
        named = {references.parameter_of(ref) for ref in
                 [version.image_ref for version in found_templates]
                 + [ref for launcher in found_launchers for ref in launcher.image_refs]}
        return Topology(
            region=region, amis=found_amis, snapshots=found_snapshots,
            parameters=parameters(account.ssm(region), named - {""}), templates=found_templates,
            launchers=found_launchers, configurations=configurations, instances=tuple(instances(ec2)),
            volumes=tuple(volumes(ec2, ours)), pointers=pointers(account.dynamodb(region), image))


def with_shares(ec2: Client, found: Topology, wanted: Iterable[str]) -> Topology:
    """`found` with the launch permissions of the `wanted` images."""
    shares = {ami_id: tuple(map(_grantee, permissions(ec2, ami_id))) for ami_id in wanted}
    return replace(found, amis=tuple(
        replace(ami, shared_with=shares[ami.id]) if ami.id in shares else ami for ami in found.amis))


def permissions(ec2: Client, ami_id: str) -> list[dict[str, str]]:
    """The launch permissions of an image of ours, as EC2 lists them."""
    answer = ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission")
    return [dict(each) for each in answer.get("LaunchPermissions", [])]


def _grantee(permission: Mapping[str, str]) -> str:
    return next(iter(permission.values()))


def pointers(dynamodb: Client, image: str) -> dict[str, str]:
    """What the ledger of `image` names: channels, and the build that a rollback would go back to."""
    ledger = lease.look(dynamodb, image).ledger
    marks = {"latest": ledger.latest, "candidate": ledger.candidate, ROLLBACK: ledger.previous()}
    return {name: mark.ami for name, mark in marks.items() if mark}


def amis(ec2: Client, *, tagged: bool = False) -> Iterator[AccountAmi]:
    """The account's own images, disabled and deprecated ones too; `tagged`: those that carry this pipeline's tag."""
    only: Data = {"Filters": TAGGED} if tagged else {}
    for each in pages(ec2, "describe_images", "Images", 1000, Owners=["self"], IncludeDisabled=True,
                      IncludeDeprecated=True, **only):
        marks = tags.from_list(each.get("Tags"))
        devices = [device["Ebs"] for device in each.get("BlockDeviceMappings", []) if "Ebs" in device]
        yield AccountAmi(
            id=each["ImageId"], name=each.get("Name", ""), created=_moment(each["CreationDate"]),
            state=AmiState(each["State"]), image=marks.get(tags.IMAGE, ""), build_id=marks.get(tags.BUILD_ID, ""),
            snapshots=tuple(device["SnapshotId"] for device in devices if "SnapshotId" in device),
            deprecated=optional(each.get("DeprecationTime")), announced=optional(marks.get(tags.RETIRING)),
            disabled=optional(marks.get(tags.DISABLED)),
            protected=each.get("DeregistrationProtection", "disabled") != "disabled",
            last_launched=optional(each.get("LastLaunchedTime")))


def snapshots(ec2: Client) -> Iterator[AccountSnapshot]:
    """The account's snapshots that carry this pipeline's tag: an account may have many thousands of backups."""
    for each in pages(ec2, "describe_snapshots", "Snapshots", 1000, OwnerIds=["self"], Filters=TAGGED):
        marks = tags.from_list(each.get("Tags"))
        stored = marks.get(tags.STORED_BYTES, "")
        yield AccountSnapshot(
            id=each["SnapshotId"], started=each["StartTime"], state=SnapshotState(each["State"]),
            image=marks.get(tags.IMAGE, ""), build_id=marks.get(tags.BUILD_ID, ""),
            expires=optional(marks.get(tags.EXPIRES)), parent=marks.get(tags.PARENT, ""),
            volume_gib=each["VolumeSize"], full_bytes=each.get("FullSnapshotSizeInBytes"),
            stored_bytes=int(stored) if stored.isdecimal() else None)


def templates(ec2: Client) -> Iterator[TemplateVersion]:
    """Every version of every launch template."""
    for template in pages(ec2, "describe_launch_templates", "LaunchTemplates", 200):
        marks = tags.from_list(template.get("Tags"))
        for each in pages(ec2, "describe_launch_template_versions", "LaunchTemplateVersions", 200,
                           LaunchTemplateId=template["LaunchTemplateId"]):
            yield template_version(each, template["LatestVersionNumber"], marks.get(tags.IMAGE, ""))


def default_versions(ec2: Client) -> Iterator[TemplateVersion]:
    """The default version of every launch template, without asking for each template."""
    for each in pages(ec2, "describe_launch_template_versions", "LaunchTemplateVersions", 200, Versions=["$Default"]):
        yield template_version(each, 0, "")


def template_version(described: Mapping[str, Any], latest: int, image: str) -> TemplateVersion:
    """One version as EC2 describes it; `latest` is its template's newest, `image` the template's tag."""
    data = described["LaunchTemplateData"]
    devices = (mapping.get("Ebs", {}).get("SnapshotId") for mapping in data.get("BlockDeviceMappings", []))
    return TemplateVersion(
        template_id=described["LaunchTemplateId"], template=described["LaunchTemplateName"],
        number=described["VersionNumber"], image_ref=data.get("ImageId", ""),
        default=described["DefaultVersion"], latest=described["VersionNumber"] == latest, image=image,
        snapshots=tuple(filter(None, devices)))


def groups(autoscaling: Client) -> Iterator[Launcher]:
    """Auto Scaling groups with every template that they may launch from."""
    for each in pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups", 100):
        mixed = each.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
        yield _launcher(LauncherKind.GROUP, each["AutoScalingGroupName"],
                        {"LaunchTemplateSpecification": each.get("LaunchTemplate")}, mixed,
                        configuration=each.get("LaunchConfigurationName") or "")


def fleets(ec2: Client) -> Iterator[Launcher]:
    """EC2 Fleets, Spot fleet requests and Spot instance requests that may launch again.

    A fleet of type `instant` is not listed, and has launched all that it ever will: its instances count.
    """
    for each in pages(ec2, "describe_fleets", "Fleets", 1000):
        if each["FleetState"] not in FLEET_ENDED:
            yield _launcher(LauncherKind.FLEET, each["FleetId"], *each.get("LaunchTemplateConfigs", []))
    for each in pages(ec2, "describe_spot_fleet_requests", "SpotFleetRequestConfigs", 1000):
        if each["SpotFleetRequestState"] not in SPOT_FLEET_ENDED:
            config = each["SpotFleetRequestConfig"]
            yield _launcher(LauncherKind.SPOT_FLEET, each["SpotFleetRequestId"],
                            *config.get("LaunchTemplateConfigs", []),
                            {"Overrides": config.get("LaunchSpecifications", [])})
    for each in pages(ec2, "describe_spot_instance_requests", "SpotInstanceRequests", 1000):
        if each["State"] not in SPOT_REQUEST_ENDED:
            yield _launcher(LauncherKind.SPOT_REQUEST, each["SpotInstanceRequestId"],
                            {"Overrides": [each.get("LaunchSpecification", {})]})


def _launcher(kind: LauncherKind, name: str, *configs: Mapping[str, Any], configuration: str = "") -> Launcher:
    """A launcher from templates with their overrides, as groups and fleets describe them."""
    overrides = [override for config in configs for override in config.get("Overrides", [])]
    named = [each.get("LaunchTemplateSpecification") for each in (*configs, *overrides)]
    return Launcher(
        kind=kind, name=name, configuration=configuration, templates=tuple(_use(use) for use in named if use),
        image_refs=tuple(override["ImageId"] for override in overrides if override.get("ImageId")))


def _use(specification: Mapping[str, str]) -> TemplateUse:
    return TemplateUse(specification.get("LaunchTemplateId") or specification["LaunchTemplateName"],
                       specification.get("Version", ""))


def instances(ec2: Client) -> Iterator[AccountInstance]:
    """Instances that are not terminated."""
    for reservation in pages(ec2, "describe_instances", "Reservations", 1000, Filters=NOT_TERMINATED):
        for each in reservation["Instances"]:
            yield AccountInstance(id=each["InstanceId"], image_id=each["ImageId"], state=each["State"]["Name"],
                                  group=tags.from_list(each.get("Tags")).get("aws:autoscaling:groupName", ""))


def volumes(ec2: Client, made_from: Iterable[str]) -> Iterator[Volume]:
    """Volumes that were made from one of these snapshots."""
    for some in _batches(sorted(made_from), FILTER_VALUES):
        for each in pages(ec2, "describe_volumes", "Volumes", 500,
                           Filters=[{"Name": "snapshot-id", "Values": some}]):
            attached = [attachment["InstanceId"] for attachment in each.get("Attachments", [])]
            yield Volume(id=each["VolumeId"], snapshot_id=each["SnapshotId"], instance=next(iter(attached), ""))


def parameters(ssm: Client, also: Iterable[str] = ()) -> dict[str, str]:
    """Every SSM parameter of plain text, and those in `also`, which may pin a version (`/a/b:3`) or be an ARN.

    A SecureString is left out: EC2 cannot resolve one, and reading it would need its key.
    """
    names = [each["Name"] for each in pages(ssm, "describe_parameters", "Parameters", 50)
             if each["Type"] != "SecureString"]
    found = values(ssm, names)
    for name in set(also) - set(found):
        try:
            found[name] = ssm.get_parameter(Name=name)["Parameter"]["Value"]
        except aws.ClientError as error:
            if code(error) not in _NO_PARAMETER:
                raise
    return found


def values(ssm: Client, names: Sequence[str]) -> dict[str, str]:
    """The values of the parameters that exist, by name."""
    return {each["Name"]: each["Value"] for some in _batches(names, PARAMETERS)
            for each in ssm.get_parameters(Names=some)["Parameters"]}


def _batches(things: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(things), size):
        yield list(things[start:start + size])


def pages(client: Client, call: str, key: str, size: int, **arguments: Any) -> Iterator[Any]:
    """The things below `key` in every page of a call."""
    for page in client.get_paginator(call).paginate(PaginationConfig={"PageSize": size}, **arguments):
        yield from page[key]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def optional(text: str | None) -> datetime | None:
    """A time, or None where there is none or a person wrote something else into the tag."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
