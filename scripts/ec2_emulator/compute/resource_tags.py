"""Tags of a resource, found by its id. moto would match every tag of the account with an expression
for each resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix
from moto.ec2.utils import is_filter_matching as _moto_matches

from ec2_emulator import listing
from ec2_emulator.rules import invalid_parameter, rule


def get_tags(resource: TaggedEC2Resource) -> list[dict[str, str]]:
    """Return a resource's tags in the form of `DescribeTags`."""
    resource_id = resource.id  # type: ignore[attr-defined]
    if not resource_id:
        return []
    resource_type = EC2_PREFIX_TO_RESOURCE.get(get_prefix(resource_id), "")
    tags = resource.ec2_backend.tags  # type: ignore[attr-defined]
    return [
        {"resource_id": resource_id, "key": key, "value": value, "resource_type": resource_type}
        for key, value in tags.get(resource_id, {}).items()
    ]


def matches(resource: Any, name: str, values: list[str]) -> bool:
    """Whether a resource matches a filter. One by keys of tags is met by one of its values; moto
    wants all of them, or no other key."""
    if name != "tag-key":
        return bool(_moto_matches(resource, name, values))
    keys = [tag["key"] for tag in resource.get_tags()]
    return any(listing.wildcard(value).fullmatch(key) for value in values for key in keys)


@rule
def tags_for(
    resource: str, specifications: Sequence[Mapping[str, Any]], allowed: Sequence[str]
) -> dict[str, str]:
    """Return the tags that `TagSpecifications` give to a type of resource. A type that is not in
    `allowed` is refused."""
    for specification in specifications:
        if specification.get("ResourceType") not in allowed:
            raise invalid_parameter(
                f"'{specification.get('ResourceType')}' is not a valid taggable resource type "
                "for this operation."
            )
    return {
        tag["Key"]: tag.get("Value", "")
        for specification in specifications
        if specification["ResourceType"] == resource
        for tag in specification.get("Tags", [])
    }
