"""The machines and groups of an image, against the instance types that a publish is to allow."""

from __future__ import annotations

from collections import Counter

from goldenami.aws.channels import pointers
from goldenami.aws.channels.channels import ImageInAccount, RegionBuild
from goldenami.aws.inventory import inventory
from goldenami.core.errors import BadInput
from goldenami.model.supported.allowed_types import WIDER, AllowedTypes


def refused(image: ImageInAccount, state: RegionBuild, allowed: AllowedTypes) -> dict[str, int]:
    """Count the region's machines of the image by their type, if EC2 would not launch the build on
    it. Raises BadInput for a group that launches on such a type by the image's template."""
    if allowed == AllowedTypes():
        return {}
    _check_groups(image, state, allowed)
    ec2 = image.account.ec2(state.region)
    amis = {ami.id for ami in inventory.amis(ec2, tagged=True) if ami.image == image.name}
    counts = Counter[str]()
    for instance in inventory.instances(ec2):
        if instance.image_id in amis and not allowed.allows(instance.type):
            counts[instance.type] += 1
    return dict(sorted(counts.items()))


def _check_groups(image: ImageInAccount, state: RegionBuild, allowed: AllowedTypes) -> None:
    names = {pointers.template_name(image.name)}
    if state.template:
        names.add(state.template.template)
    for group in inventory.groups(image.account.autoscaling(state.region)):
        if names.isdisjoint(use.template for use in group.templates):
            continue
        for instance_type in group.types:
            if not allowed.allows(instance_type):
                raise BadInput(
                    f"the Auto Scaling group {group.name} in {state.region} launches "
                    f"{instance_type}, on which EC2 would not launch this build",
                    hint=f"take it out of the group's overrides, or allow it: {WIDER}",
                )
