"""Policies of the organisation, as data: what each stops, what it does not stop, and the document
to attach."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter

from goldenami.core.records import Record

DATA = Path(__file__).with_name("organization.yml")
BAKE_ACCOUNT = "BAKE_ACCOUNT"
"""What stands for the account that bakes."""
ALLOWED_REGIONS, REGIONS = "allowed-regions", "REGIONS"
"""The policy that `residency` makes, and what stands for its patterns in it."""


class PolicyType(StrEnum):
    """AWS Organizations' names (CreatePolicy, `Type`)."""

    SERVICE_CONTROL = "SERVICE_CONTROL_POLICY"
    DECLARATIVE_EC2 = "DECLARATIVE_POLICY_EC2"


class Effect(Record):
    """What a policy stops or does not; `request` is an example that the document alone decides, by
    action, resource and condition keys."""

    what: str
    request: dict[str, Any] = Field(default_factory=dict)


class OrganizationPolicy(Record):
    """One policy, its document ready for CreatePolicy."""

    name: str
    type: Annotated[PolicyType, Field(strict=False)]
    attach_to: str
    document: dict[str, Any]
    stops: Annotated[list[Effect], Field(min_length=1)]
    does_not_stop: Annotated[list[Effect], Field(min_length=1)]


def policies(bake_account: str, regions: Sequence[str] = ()) -> list[OrganizationPolicy]:
    """For an account of 12 digits. `regions`: patterns of those that are allowed; without any the
    policy of regions is left out."""
    text = DATA.read_text(encoding="utf-8")
    named = _named(yaml.safe_load(text), bake_account, list(regions))
    found = TypeAdapter(list[OrganizationPolicy]).validate_python(named)
    return [policy for policy in found if regions or policy.name != ALLOWED_REGIONS]


def _named(part: Any, account: str, regions: list[str]) -> Any:
    if isinstance(part, dict):
        return {key: _named(each, account, regions) for key, each in part.items()}
    if isinstance(part, list):
        return [_named(each, account, regions) for each in part]
    if part == REGIONS:
        return regions
    return part.replace(BAKE_ACCOUNT, account) if isinstance(part, str) else part
