"""A resource's own tags, found by its id: moto holds an expression to every tag of the account for
each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

from ec2_emulator.rules import EC2_API, invalid_parameter, rule


def get_tags(resource: TaggedEC2Resource) -> list[dict[str, str]]:
    """As `DescribeTags` has them."""
    name = resource.id  # type: ignore[attr-defined]
    if not name:
        return []
    kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(name), "")
    tags = resource.ec2_backend.tags  # type: ignore[attr-defined]
    return [
        {"resource_id": name, "key": key, "value": value, "resource_type": kind}
        for key, value in tags.get(name, {}).items()
    ]


@rule(EC2_API + "API_TagSpecification.html")
def tags_for(
    resource: str, specifications: Sequence[Mapping[str, Any]], allowed: Sequence[str]
) -> dict[str, str]:
    """The tags that `TagSpecifications` give a type of resource; another type than `allowed` is
    refused."""
    for each in specifications:
        if each.get("ResourceType") not in allowed:
            raise invalid_parameter(
                f"'{each.get('ResourceType')}' is not a valid taggable resource type for this "
                "operation."
            )
    return {
        tag["Key"]: tag.get("Value", "")
        for each in specifications
        if each["ResourceType"] == resource
        for tag in each.get("Tags", [])
    }
