"""What the request of many calls has: a client token, and tags."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ec2_emulator.errors import ApiError, invalid_parameter
from ec2_emulator.state import STATE

T = TypeVar("T")


def idempotent(scope: tuple[str, ...], token: str | None, request: object, make: Callable[[], T],
               conflict: ApiError) -> T:
    """Idempotency: the first result again for the same token and request; `conflict` for another
    request."""
    if not token:
        return make()
    said = json.dumps(request, sort_keys=True, default=str)
    key = (*scope, token)
    if key in STATE.tokens:
        before, result = STATE.tokens[key]
        if before != said:
            raise conflict
        return result  # type: ignore[no-any-return]
    result = make()
    STATE.tokens[key] = (said, result)
    return result


def tags_for(
    resource: str, specifications: Sequence[Mapping[str, Any]], allowed: Sequence[str]
) -> dict[str, str]:
    """The tags that `TagSpecifications` give a type of resource; another type than `allowed` is
    refused."""
    for each in specifications:
        if each.get("ResourceType") not in allowed:
            raise invalid_parameter(
                f"'{each.get('ResourceType')}' is not a valid taggable resource type for this "
                "operation.")
    return {tag["Key"]: tag.get("Value", "") for each in specifications if each["ResourceType"]
            == resource
            for tag in each.get("Tags", [])}
