"""Policies of the organisation, as data: what each stops, what it does not stop, and the document
to attach."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter

from goldenami.core.records import Record

DATA = Path(__file__).with_name("organization.yml")
BAKE_ACCOUNT = "BAKE_ACCOUNT"
"""What stands for the account that bakes."""


class PolicyType(StrEnum):
    """AWS Organizations' names (CreatePolicy, `Type`)."""

    SERVICE_CONTROL = "SERVICE_CONTROL_POLICY"
    DECLARATIVE_EC2 = "DECLARATIVE_POLICY_EC2"


class Effect(Record):
    """What a policy stops or does not; `request` is an example by action, resource and condition
    keys, if there is one that the document alone decides.
    """

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


def policies(bake_account: str) -> list[OrganizationPolicy]:
    """All policies, for that account of 12 digits."""
    text = DATA.read_text(encoding="utf-8")
    return TypeAdapter(list[OrganizationPolicy]).validate_python(
        _named(yaml.safe_load(text), bake_account)
    )


def _named(part: Any, account: str) -> Any:
    if isinstance(part, dict):
        return {key: _named(each, account) for key, each in part.items()}
    if isinstance(part, list):
        return [_named(each, account) for each in part]
    return part.replace(BAKE_ACCOUNT, account) if isinstance(part, str) else part
