"""What a version of a launch template says: of the pipeline's own all of it, of a user's own what
changes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami.aws import images
from goldenami.aws.channels import pointers
from goldenami.aws.channels.pointers import Data, LaunchData, TemplateRef, Version
from goldenami.aws.session import Client
from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import Definition, LaunchTemplate, VolumeType

_VOLUME_KEYS = {"volume_type": "VolumeType", "iops": "Iops", "throughput": "Throughput",
                "volume_size_gib": "VolumeSize", "initialization_rate": "VolumeInitializationRate"}


@dataclass(frozen=True)
class TemplateBase:
    """What a region adds to the definition's words: ids of the security groups, a user's version to
    begin with."""

    groups: tuple[str, ...] = ()
    source: Version | None = None


def template_of(definition: Definition) -> TemplateRef:
    """The launch template by which others launch the image."""
    template = definition.publish.launch_template if definition.publish else LaunchTemplate()
    if template.is_theirs:
        return TemplateRef(template.name or "", template.id or "",
                           f"${template.source_version.value.capitalize()}")
    return TemplateRef(pointers.template_name(definition.image))


def read_base(ec2: Client, definition: Definition) -> TemplateBase:
    """Ask the region for what the definition names there; BadInput where it has none, or where the
    two exclude each other.
    """
    ref, template = template_of(definition), _template(definition)
    source = pointers.default_version(ec2, ref, ref.source) if ref.source else None
    base = TemplateBase(tuple(_group_ids(ec2, template.security_groups)), source)
    if source:
        _check_fits(source, _stated(template, base))
        _check_root(source, template, definition.disk_size_gib)
    return base


def _template(definition: Definition) -> LaunchTemplate:
    assert definition.publish is not None  # whoever asks has seen to that
    return definition.publish.launch_template


def _group_ids(ec2: Client, groups: Sequence[str]) -> Sequence[str]:
    """Ids of the security groups, in their order. A name has to be of one group: a template says no
    VPC."""
    names = [group for group in groups if not group.startswith("sg-")]
    if not names:
        return groups
    found: dict[str, list[str]] = {name: [] for name in names}
    answer = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": names}])
    for row in answer["SecurityGroups"]:
        # EC2 takes * and ? for wildcards.
        found.setdefault(row["GroupName"], []).append(row["GroupId"])
    for name in names:
        if len(ids := found[name]) != 1:
            raise BadInput(f"{len(ids) or 'no'} security groups are named {name} in "
                           f"{ec2.meta.region_name}",
                           hint="correct `publish: launch_template: security_groups:`, or make "
                                "the name unique")
    return [found[group][0] if group in found else group for group in groups]


def of_image(definition: Definition, ami: str, base: TemplateBase) -> LaunchData:
    """What a version that launches `ami` has to say, by the definition."""
    if template_of(definition).source:
        return _changed(_template(definition), ami, base)
    return LaunchData.whole(_whole(_template(definition), ami, base))


def _whole(template: LaunchTemplate, ami: str, base: TemplateBase) -> Data:
    """Of the pipeline's own template: the literal AMI, IMDSv2 only, the volume, and what is stated.

    It has no InstanceRequirements, with which RunInstances refuses a template
    (RequestLaunchTemplateData): a group brings its own (`cluster`). Two hops let a container on the
    instance reach the metadata service ("Configure the instance metadata options").
    """
    ebs = {name: getattr(template, field) for field, name in _VOLUME_KEYS.items()
           if getattr(template, field)}
    ebs |= {"VolumeType": template.volume_type.value, "DeleteOnTermination": True}
    if template.volume_type is not VolumeType.GP3:
        del ebs["Throughput"]
    return {
        "ImageId": ami, "BlockDeviceMappings": [{"DeviceName": images.ROOT_DEVICE, "Ebs": ebs}],
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled",
                            **_metadata(template)},
        **_stated(template, base)}


def _metadata(template: LaunchTemplate) -> Data:
    options = template.metadata_options
    tags = {"InstanceMetadataTags": "enabled"} if options.instance_tags else {}
    return {"HttpPutResponseHopLimit": options.hop_limit, **tags}


def _stated(template: LaunchTemplate, base: TemplateBase) -> Data:
    """What the definition names beside AMI, volume and metadata."""
    data: dict[str, Any] = {
        "InstanceType": template.instance_type, "KeyName": template.key,
        "SecurityGroupIds": list(base.groups),
        "IamInstanceProfile": {"Name": template.instance_profile} if template.instance_profile
        else None,
        "UserData": base64.b64encode(Path(template.user_data_file).read_bytes()).decode()
        if template.user_data_file else None}
    return {name: value for name, value in data.items() if value}


def _changed(template: LaunchTemplate, ami: str, base: TemplateBase) -> LaunchData:
    """Of a user's own template: its version with the AMI and what is stated, all else as it is."""
    assert base.source is not None  # the template exists, by the plan
    source, stated = base.source.data, template.model_fields_set
    changes: Data = {"ImageId": ami, **_stated(template, base)}
    devices = _devices(source.get("BlockDeviceMappings", []), {
        name: getattr(template, field) for field, name in _VOLUME_KEYS.items()
        if field in stated and getattr(template, field) is not None})
    # Also where none is stated: a version without them would lose the data volumes' snapshots.
    if devices:
        changes["BlockDeviceMappings"] = devices
    if "metadata_options" in stated:
        kept = {name: value for name, value in source.get("MetadataOptions", {}).items() if name
                != "State"}
        changes["MetadataOptions"] = kept | _metadata(template)
    return LaunchData({**source, **changes}, changes, base.source.number)


def _devices(given: Sequence[Data], stated: Data) -> list[Data]:
    """The template's devices: the root's with what is stated and without a snapshot, which would be
    another image's."""
    devices = [{**device, "Ebs": dict(device["Ebs"])} if "Ebs" in device else dict(device)
               for device in given]
    roots = [device for device in devices if device["DeviceName"] == images.ROOT_DEVICE]
    if stated and not roots:
        roots = [{"DeviceName": images.ROOT_DEVICE, "Ebs": {}}]
        devices += roots
    for root in roots:
        root["Ebs"] = {**root.get("Ebs", {}), **stated}
        root["Ebs"].pop("SnapshotId", None)
    return devices


_CONFLICTS = (("InstanceType", "InstanceRequirements", "instance_type"),
              ("SecurityGroupIds", "NetworkInterfaces", "security_groups"),
              ("SecurityGroupIds", "SecurityGroups", "security_groups"))
"""What EC2 refuses beside each other (RequestLaunchTemplateData): ours, theirs, and our key for
it."""


def _check_root(source: Version, template: LaunchTemplate, gib: int) -> None:
    """A root volume smaller than the image's snapshot could not be launched."""
    sizes = [device["Ebs"]["VolumeSize"] for device in source.data.get("BlockDeviceMappings", [])
             if device["DeviceName"] == images.ROOT_DEVICE
             and device.get("Ebs", {}).get("VolumeSize")]
    if sizes and sizes[0] < gib and not template.volume_size_gib:
        raise BadInput(f"version {source.number} of {source.template} has a root volume of "
                       f"{sizes[0]} GiB, and the "
                       f"disk has {gib}",
                       hint="state `publish: launch_template: volume_size_gib:`, or make a larger "
                                               "version")


def _check_fits(source: Version, stated: Data) -> None:
    for ours, theirs, key in _CONFLICTS:
        if ours in stated and source.data.get(theirs):
            raise BadInput(f"version {source.number} of {source.template} has {theirs}, which "
                           f"excludes `{key}`",
                           hint=f"take `{key}` out of `publish: launch_template:`, or make a "
                                f"version without {theirs}")
