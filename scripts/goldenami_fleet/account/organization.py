"""Policies for an AWS organisation: what each stops, what it does not stop, and the document to
attach."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from goldenami.core.records import Record
from pydantic import Field, TypeAdapter

DATA = Path(__file__).with_name("organization.yml")
BAKE_ACCOUNT = "BAKE_ACCOUNT"
"""Placeholder for the number of the account that bakes."""
ALLOWED_REGIONS, REGIONS = "allowed-regions", "REGIONS"
"""Name of the policy that follows from `residency`, and the placeholder for its patterns."""


class PolicyType(StrEnum):
    """AWS Organizations' names (CreatePolicy, `Type`)."""

    SERVICE_CONTROL = "SERVICE_CONTROL_POLICY"
    DECLARATIVE_EC2 = "DECLARATIVE_POLICY_EC2"


class Effect(Record):
    """One thing that a policy stops, or does not stop. `request` is an example that the document
    alone decides: action, resource and condition keys."""

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
    """Return the policies for the account number `bake_account` (12 digits). `regions` are patterns
    of allowed regions; if there are none, the policy on regions is left out."""
    text = DATA.read_text(encoding="utf-8")
    filled_in = _filled_in(yaml.safe_load(text), bake_account, list(regions))
    all_policies = TypeAdapter(list[OrganizationPolicy]).validate_python(filled_in)
    return [policy for policy in all_policies if regions or policy.name != ALLOWED_REGIONS]


def _filled_in(part: Any, account: str, regions: list[str]) -> Any:
    if isinstance(part, dict):
        return {key: _filled_in(value, account, regions) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled_in(value, account, regions) for value in part]
    if part == REGIONS:
        return regions
    return part.replace(BAKE_ACCOUNT, account) if isinstance(part, str) else part
