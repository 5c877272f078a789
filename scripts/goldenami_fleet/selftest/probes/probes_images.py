"""Probes of AMIs: what registers, copies, shares, hides and removes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from goldenami.aws import calls, images, tags
from goldenami.aws.images import Image
from goldenami.core import clock

from goldenami_fleet.selftest.probes.asking import Asked
from goldenami_fleet.selftest.probes.ground import Ground, Probe, refused

_WRONG = "InvalidParameterValue"
_REGISTER, _DESCRIBE, _SHARE, _TYPES = (
    f"ec2.{name}"
    for name in (
        "register_image",
        "describe_images",
        "modify_image_attribute",
        "replace_image_instance_type_specification",
    )
)
_PENDING = (None, "pending")
NO_IMAGE, NO_SNAPSHOT = "ami-00000000000000000", "snap-00000000000000000"


def _fields(ground: Ground) -> str:
    raw = ground.described(ground.image)
    return ", ".join(str(raw.get(name)) for name in ("BootMode", "ImdsSupport", "EnaSupport"))


def _tagged(ground: Ground, found: list[dict[str, Any]]) -> str:
    """Whether what was made has its tags."""
    have = [tags.from_list(each.get("Tags")) for each in found]
    return "tagged" if all(ground.tags.items() <= each.items() for each in have) else "not tagged"


def _asked_copy(ground: Ground, name: str, **more: Any) -> Asked:
    return {
        "Name": f"{ground.name}-{name}",
        "SourceImageId": ground.image,
        "SourceRegion": ground.region,
        "TagSpecifications": ground.of("image", "snapshot"),
        **more,
    }


def _copied(ground: Ground) -> str:
    """Copy the AMI within the region, and look at the copy."""
    ami = ground.make("ec2.copy_image", **_asked_copy(ground, "copy"))
    copy = images.wait_available(ground.ec2, ami)
    snapshots = ground.ec2.describe_snapshots(SnapshotIds=[copy.snapshot])["Snapshots"]
    source = "of its source" if copy.raw.get("SourceImageId") == ground.image else "of nothing"
    return f"{copy.state}, {source}, {_tagged(ground, [copy.raw, *snapshots])}"


def _copied_in_vain(ground: Ground) -> str:
    """Copy the AMI with a key that nobody has."""
    asked = _asked_copy(ground, "in-vain", Encrypted=True, KmsKeyId=ground.no_key)
    ami = ground.make("ec2.copy_image", **asked)
    ground.wait(f"{ami} is pending", lambda: ground.described(ami).get("State") not in _PENDING)
    return str(ground.described(ami)["State"])


def _date(ground: Ground) -> str:
    return str(ground.described(ground.deprecated)["DeprecationTime"])[-8:]


def _share(ground: Ground, ami: str) -> Asked:
    """Share an AMI with the own account, which changes nothing if it is granted."""
    own = {"UserId": ground.account.number(ground.region)}
    return {"ImageId": ami, "LaunchPermission": {"Add": [own]}}


def _types(ground: Ground) -> str:
    """Allow types, and then all again."""
    lists = ground.allowing(SupportedInstanceTypes=["t3.*"])
    ami = ground.register("types")
    seen = []
    for asked in ({**lists, "ImageId": ami}, {"ImageId": ami}):
        ground.ask(_TYPES, **asked)
        seen.append(str(Image(ground.described(ami)).instance_types))
    return ", then ".join(seen)


REGISTER = (
    refused(
        "name_is_free",
        "InvalidAMIName.Duplicate",
        _REGISTER,
        lambda g: g.asked_image("x", Name=g.described(g.image)["Name"]),
    ),
    refused(
        "snapshot_is_ready",
        "InvalidSnapshot.NotFound",
        _REGISTER,
        lambda g: g.asked_image("none", NO_SNAPSHOT),
    ),
    refused(
        "snapshot_is_ready", "IncorrectState", _REGISTER, lambda g: g.asked_image("early", g.opened)
    ),
    refused(
        "volume_holds_snapshot",
        "InvalidBlockDeviceMapping",
        _REGISTER,
        lambda g: g.asked_image("small", g.larger, Ebs={"VolumeSize": 1}),
    ),
    Probe("register_image", "uefi-preferred, v2.0, True", _fields),
    Probe("tags_for", "tagged", lambda g: _tagged(g, [g.described(g.image)])),
    refused(
        "tags_for",
        _WRONG,
        _REGISTER,
        lambda g: g.asked_image("odd", TagSpecifications=g.of("instance")),
    ),
    Probe("copy_image", "available, of its source, tagged", _copied),
    Probe("copy_image", "failed", _copied_in_vain),
    refused(
        "find", "InvalidAMIID.NotFound", _DESCRIBE, lambda g: {"ImageIds": [g.image, NO_IMAGE]}
    ),
    refused("find", "InvalidAMIID.Unavailable", _DESCRIBE, lambda g: {"ImageIds": [g.gone]}),
    refused(
        "image_filter",
        _WRONG,
        _DESCRIBE,
        lambda g: {"ImageIds": [g.image], "Filters": [{"Name": "colour", "Values": ["gold"]}]},
    ),
    refused(
        "deprecation_date",
        _WRONG,
        "ec2.enable_image_deprecation",
        lambda g: {"ImageId": g.image, "DeprecateAt": clock.now() - timedelta(days=1)},
    ),
    Probe("deprecation_date", ":00.000Z", _date),
    refused(
        "default_key_is_not_shared", "OperationNotPermitted", _SHARE, lambda g: _share(g, g.secret)
    ),
    refused(
        "type_lists",
        _WRONG,
        _TYPES,
        lambda g: g.allowing(SupportedInstanceTypes=[f"g{n}.*" for n in range(101)]),
    ),
    refused("type_lists", _WRONG, _TYPES, lambda g: g.allowing(SupportedInstanceTypes=["g5.**"])),
    refused(
        "type_lists", _WRONG, _TYPES, lambda g: g.allowing(SupportedInstanceTypes=["g 5.large"])
    ),
    refused(
        "type_lists",
        _WRONG,
        _TYPES,
        lambda g: g.allowing(SupportedInstanceTypes=["g5.*"], UnsupportedInstanceTypes=["g5.*"]),
    ),
    Probe("replace_image_instance_type_specification", "t3.*, then any", _types),
)


def _protected(ground: Ground) -> str:
    """Deregister a protected AMI. The protection does not outlive the question."""
    ami = ground.register("protected")
    ground.ec2.enable_image_deregistration_protection(ImageId=ami)
    try:
        return ground.answer("ec2.deregister_image", {"ImageId": ami}, "OperationNotPermitted")
    finally:
        with calls.tolerate(".Unavailable", ".NotFound"):
            ground.ec2.disable_image_deregistration_protection(ImageId=ami)


RETIRE = (
    refused(
        "disabled_is_not_shared",
        "InvalidAMIID.Unavailable",
        _SHARE,
        lambda g: _share(g, g.disabled),
    ),
    Probe("disabled_is_hidden", "hidden", lambda g: g.listed(g.disabled)),
    Probe("disabled_is_hidden", "listed", lambda g: g.listed(g.disabled, IncludeDisabled=True)),
    Probe("deprecated_is_hidden", "listed", lambda g: g.listed(g.deprecated)),
    Probe("protected_is_not_deregistered", "OperationNotPermitted", _protected),
    refused(
        "snapshot_of_an_ami_stays",
        "InvalidSnapshot.InUse",
        "ec2.delete_snapshot",
        lambda g: {"SnapshotId": Image(g.described(g.disabled)).snapshot},
    ),
)
