"""The organisation's policies: each document is asked about each request that it is said to stop,
or not to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from goldenami_fleet.account import organization
from goldenami_fleet.account.organization import OrganizationPolicy, PolicyType
from support.builds.builds import Checkout

ACCOUNT = "123456789012"
SOMEBODY = "arn:aws:iam::1:user/somebody"
SIZES = {PolicyType.SERVICE_CONTROL: 5120, PolicyType.DECLARATIVE_EC2: 10_000}
"""Characters of a policy (AWS Organizations, "Quotas")."""
POLICIES = {policy.name: policy for policy in organization.policies(ACCOUNT, ["eu-*"])}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def holds(operator: str, key: str, wanted: Any, request: Mapping[str, Any]) -> bool:
    """One condition of a statement, as IAM's reference has it ("Condition operators"): a key that
    is missing makes a negated operator true.
    """
    has, patterns = listed(request.get(key, [])), [str(each) for each in listed(wanted)]
    matches = [any(fnmatchcase(value, pattern) for pattern in patterns) for value in has]
    match operator:
        case "ArnNotLike" | "StringNotEquals" | "StringNotLike":
            return not any(matches)
        case "ForAnyValue:StringLike":
            return any(matches)
        case "Null":
            return (key not in request) is (patterns == ["true"])
    raise AssertionError(operator)


def denies(policy: OrganizationPolicy, request: Mapping[str, Any]) -> bool:
    asked = {"aws:PrincipalArn": SOMEBODY, **request}
    for statement in policy.document["Statement"]:
        assert statement["Effect"] == "Deny"
        conditions = [
            holds(operator, key, wanted, asked)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        ]
        acts = (
            asked["action"] in listed(statement["Action"])
            if "Action" in statement
            else not any(
                fnmatchcase(asked["action"], pattern) for pattern in statement["NotAction"]
            )
        )
        if (
            all(conditions)
            and acts
            and any(
                fnmatchcase(asked["resource"], pattern) for pattern in listed(statement["Resource"])
            )
        ):
            return True
    return False


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_policy_stops_what_it_says_and_nothing_else(name: str) -> None:
    policy = POLICIES[name]
    assert len(json.dumps(policy.document, separators=(",", ":"))) <= SIZES[policy.type]
    assert organization.BAKE_ACCOUNT not in json.dumps(policy.document)
    stopped = [effect for effect in policy.stops if effect.request]
    assert bool(stopped) is (policy.type is PolicyType.SERVICE_CONTROL)
    assert [effect.what for effect in stopped if not denies(policy, effect.request)] == []
    assert [
        effect.what
        for effect in policy.does_not_stop
        if effect.request and denies(policy, effect.request)
    ] == []


def test_the_command_prints_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Checkout(tmp_path / "checkout", monkeypatch)
    assert "which account bakes?" in checkout.run("account", "policies", code=2)
    checkout.define(f"publish: {{regions: [us-east-1], account: '{ACCOUNT}'}}\n")
    said = checkout.run("account", "policies")
    printed = {one["name"]: one["document"] for one in json.loads(said)}
    assert printed == {
        name: policy.document
        for name, policy in POLICIES.items()
        if name != organization.ALLOWED_REGIONS
    }
    (checkout.root / "packer/residency.yml").write_text(
        "regions: [us-*, eu-central-1]\n", encoding="utf-8"
    )
    said = checkout.run("account", "policies")
    [asked] = [
        one["document"] for one in json.loads(said) if one["name"] == organization.ALLOWED_REGIONS
    ]
    assert asked["Statement"][0]["Condition"] == {
        "StringNotLike": {"aws:RequestedRegion": ["us-*", "eu-central-1"]}
    }
