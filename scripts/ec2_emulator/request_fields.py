"""What the request of many calls has: a client token, and tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ec2_emulator.answers import fields
from ec2_emulator.errors import ApiError, invalid_parameter
from ec2_emulator.lateness import HttpAnswer
from ec2_emulator.rules import EC2_API, rule
from ec2_emulator.state import STATE, ApiCall

IDEMPOTENT = {"ebs:StartSnapshot": "ConflictException", **dict.fromkeys((
    "ec2:CopyImage", "ec2:RunInstances", "ec2:CreateLaunchTemplate",
    "ec2:CreateLaunchTemplateVersion", "ec2:CreateReplaceRootVolumeTask"),
    "IdempotentParameterMismatch")}
"""Calls that a ClientToken makes idempotent, and how another request with it is refused (EBS:
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-direct-api-idempotency.html)."""


@rule(EC2_API + "Run_Instance_Idempotency.html")
def same_token_same_answer(
    call: ApiCall, body: bytes, make: Callable[[], HttpAnswer]
) -> HttpAnswer:
    """The same ClientToken gives the first answer again, and a refusal for another request."""
    asked = fields(body) if call.name in IDEMPOTENT else {}
    token = asked.pop("ClientToken", "")
    if not token:
        return make()
    key = (call.name, call.region, call.key, token)
    before, answer = STATE.tokens.get(key) or (asked, make())
    if before != asked:
        raise ApiError(IDEMPOTENT[call.name], f"the token {token} belongs to another request")
    if answer.is_success:
        STATE.tokens[key] = (asked, answer)
    return answer


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
    return {tag["Key"]: tag.get("Value", "") for each in specifications
            if each["ResourceType"] == resource for tag in each.get("Tags", [])}
