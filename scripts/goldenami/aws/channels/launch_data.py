"""The data of a version of an image's launch template, and the security groups in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.channels.pointers import Data
from goldenami.aws.session import Client
from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.cluster_section import Monitoring
from goldenami.model.operation.publish_section import LaunchTemplate, VolumeType

_VOLUME_KEYS = {
    "volume_type": "VolumeType",
    "iops": "Iops",
    "throughput": "Throughput",
    "volume_size_gib": "VolumeSize",
    "initialization_rate": "VolumeInitializationRate",
}


def _template(definition: Definition) -> LaunchTemplate:
    assert definition.publish is not None  # callers have checked it
    return definition.publish.launch_template


def read_groups(ec2: Client, definition: Definition) -> tuple[str, ...]:
    """The ids of the template's security groups in the region. Raises BadInput for a name that is
    not that of exactly one group."""
    groups = _template(definition).security_groups
    names = [group for group in groups if not group.startswith("sg-")]
    if not names:
        return tuple(groups)
    # A template names no VPC that would tell groups of the same name apart.
    ids_by_name: dict[str, list[str]] = {name: [] for name in names}
    answer = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": names}])
    for row in answer["SecurityGroups"]:
        # setdefault, as EC2 takes * and ? in a name for wildcards and may return other names.
        ids_by_name.setdefault(row["GroupName"], []).append(row["GroupId"])
    for name in names:
        if len(ids := ids_by_name[name]) != 1:
            raise BadInput(
                f"{len(ids) or 'no'} security groups are named {name} in {ec2.meta.region_name}",
                hint="correct `publish: launch_template: security_groups:`, or make "
                "the name unique",
            )
    return tuple(ids_by_name[group][0] if group in ids_by_name else group for group in groups)


def of_image(definition: Definition, ami: str, groups: Sequence[str]) -> Data:
    """The template data that launches `ami`: the literal AMI, IMDSv2 only, the volume, and what the
    definition states. `groups` are ids of security groups."""
    # No InstanceRequirements: RunInstances refuses a template that has them
    # (RequestLaunchTemplateData), and an Auto Scaling group brings its own.
    template = _template(definition)
    ebs = {
        name: getattr(template, field)
        for field, name in _VOLUME_KEYS.items()
        if getattr(template, field)
    }
    ebs |= {"VolumeType": template.volume_type.value, "DeleteOnTermination": True}
    if template.volume_type is not VolumeType.GP3:
        del ebs["Throughput"]
    return {
        "ImageId": ami,
        "BlockDeviceMappings": [{"DeviceName": images.ROOT_DEVICE, "Ebs": ebs}],
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            **_metadata(template),
        },
        **_stated(template, groups),
        **_monitoring(definition),
        **_tags(definition),
    }


def _tags(definition: Definition) -> Data:
    """The tags that the company demands on each machine, whoever launches it."""
    if not definition.publish or not definition.publish.tags:
        return {}
    demanded = tags.specifications(definition.publish.tags, "instance", "volume")
    return {"TagSpecifications": demanded}


def _monitoring(definition: Definition) -> Data:
    """The monitoring in the template, or {} if the definition says nothing about it."""
    # Left out then, so that versions made before this setting existed still fit.
    if definition.cluster is None and _template(definition).monitoring is None:
        return {}
    return {"Monitoring": {"Enabled": monitoring(definition) is Monitoring.DETAILED}}


def monitoring(definition: Definition) -> Monitoring:
    """The definition's monitoring; by default detailed if it has a cluster, else basic."""
    default = Monitoring.DETAILED if definition.cluster else Monitoring.BASIC
    return _template(definition).monitoring or default


def _metadata(template: LaunchTemplate) -> Data:
    options = template.metadata_options
    # Two hops let a container on the instance reach the metadata service ("Configure the instance
    # metadata options").
    data: Data = {"HttpPutResponseHopLimit": options.hop_limit}
    if options.instance_tags:
        data["InstanceMetadataTags"] = "enabled"
    return data


def _stated(template: LaunchTemplate, groups: Sequence[str]) -> Data:
    data: dict[str, Any] = {
        "InstanceType": template.instance_type,
        "KeyName": template.key,
        "SecurityGroupIds": list(groups),
    }
    if template.instance_profile:
        data["IamInstanceProfile"] = {"Name": template.instance_profile}
    if template.user_data_file:
        user_data = Path(template.user_data_file).read_bytes()
        data["UserData"] = base64.b64encode(user_data).decode()
    return {name: value for name, value in data.items() if value}
