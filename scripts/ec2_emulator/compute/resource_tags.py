"""A resource's own tags, found by its id: moto holds an expression to every tag of the account for
each."""

from __future__ import annotations

from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix


def get_tags(resource: TaggedEC2Resource) -> list[dict[str, str]]:
    """As `DescribeTags` has them."""
    name = resource.id  # type: ignore[attr-defined]
    if not name:
        return []
    kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(name), "")
    tags = resource.ec2_backend.tags  # type: ignore[attr-defined]
    return [{"resource_id": name, "key": key, "value": value, "resource_type": kind}
            for key, value in tags.get(name, {}).items()]
