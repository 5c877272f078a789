"""The CloudFormation template of an account: linted, its rights those of the policy files, within
its boundary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from golden_idle import metrics as agent_metrics
from golden_idle.account import Instance
from golden_idle.metrics import Figure, Minute, add
from goldenami_fleet.account import account_plan
from support import trees
from support.aws.account_template import (
    BOUNDARY,
    BUCKET,
    BY_COMMANDS,
    BY_HAND,
    RAW,
    RESOURCES,
    ROLES,
    TOPIC,
    USERS_BUCKET,
)
from support.builds.tools import POLICIES, complaints

NARROWED = {
    "arn:aws:s3:::*/store/*": f"{BUCKET}/store/*",
    "arn:aws:s3:::*/site/*": f"{BUCKET}/site/*",
    "arn:aws:s3:::*": BUCKET,
    "arn:aws:s3:::KEEP_BUCKET": USERS_BUCKET,
    "arn:aws:s3:::KEEP_BUCKET/${aws:PrincipalTag/goldenami:team}/*": (
        f"{USERS_BUCKET}/${{aws:PrincipalTag/goldenami:team}}/*"
    ),
    "arn:aws:sns:*:*:*": TOPIC,
}
"""What the policy of a command leaves open and the template knows: the buckets and the topic."""
TEMPLATE_BYTES, POLICY_CHARACTERS, POLICIES_A_ROLE = 51_200, 6_144, 10
"""Quotas: of a template that is sent (CloudFormation), of a policy without spaces and of a role's
policies (IAM)."""

QUERIED_S = 3 * 3600
"""How far an alarm's query looks back ("Metrics Insights quotas")."""

Right = tuple[str, str, str, str]
"""Effect, action, resource, condition."""


def rights(document: Mapping[str, Any]) -> set[Right]:
    """What a policy allows, one by one."""
    found = set[Right]()
    for statement in document["Statement"]:
        resources = (
            statement["Resource"]
            if isinstance(statement["Resource"], list)
            else [statement["Resource"]]
        )
        condition = json.dumps(statement.get("Condition"), sort_keys=True)
        found |= {
            (statement["Effect"], action, str(NARROWED.get(resource, resource)), condition)
            for action in statement["Action"]
            for resource in resources
        }
    return found


def of_command(command: str) -> set[Right]:
    return rights(json.loads((POLICIES / f"{command}.json").read_text(encoding="utf-8")))


def test_cfn_lint() -> None:
    assert complaints("cfn-lint", str(account_plan.TEMPLATE)) == ""


def test_every_command_is_in_a_policy_and_every_policy_in_a_role() -> None:
    named = {command for body in BY_COMMANDS.values() for command in body["Metadata"]["Commands"]}
    assert named == {path.stem for path in trees.scanned(20, POLICIES, "*.json")}
    for role in ("Publisher", "Tester"):
        assert ROLES[f"GitHub{role}"] == ROLES[f"GitLab{role}"]
    assert {policy for each in ROLES.values() for policy in each} == set(BY_COMMANDS) - set(BY_HAND)
    assert max(map(len, ROLES.values())) <= POLICIES_A_ROLE
    assert {
        body["Properties"]["PermissionsBoundary"]["Ref"]
        for body in RAW.values()
        if body["Type"] == "AWS::IAM::Role"
    } == {"Boundary"}


def test_the_alarm_of_idle_machines_asks_for_what_a_machine_alone_sends() -> None:
    [query] = RAW["IdleAlone"]["Properties"]["Metrics"]
    minute: Minute = {}
    add(minute, iter([Figure(agent_metrics.IDLE, 1.0)]))
    alone = Instance("i-1", "g6.xlarge", "ami-1", "us-east-1").dimensions
    [row] = agent_metrics.data(minute, 0.0, alone)
    dimensions = ", ".join(sorted(pair["Name"] for pair in row["Dimensions"]))
    assert f"AVG({row['MetricName']})" in query["Expression"]
    assert f"FROM SCHEMA({agent_metrics.NAMESPACE}, {dimensions})" in query["Expression"]
    watched_s = query["Period"] * RAW["IdleAlone"]["Properties"]["EvaluationPeriods"]
    assert watched_s == 2 * 3600 <= QUERIED_S


def test_quotas() -> None:
    assert account_plan.TEMPLATE.stat().st_size <= TEMPLATE_BYTES
    for name, body in RESOURCES.items():
        if body["Type"] == "AWS::IAM::ManagedPolicy":
            text = json.dumps(body["Properties"]["PolicyDocument"], separators=(",", ":"))
            assert len(text) <= POLICY_CHARACTERS, name


def beyond(needed: set[Right]) -> Iterator[str]:
    """Rights that the boundary does not let through."""
    limits = [(action, limit) for effect, action, limit, _ in rights(BOUNDARY) if effect == "Allow"]
    for effect, action, resource, _ in needed:
        if effect == "Allow" and not any(
            fnmatchcase(action, has) and (limit == "*" or fnmatchcase(resource, limit))
            for has, limit in limits
        ):
            yield f"{action} on {resource}"


def test_the_boundary_lets_every_right_through_and_of_iam_the_machines_role_alone() -> None:
    needed = {
        right
        for name, body in BY_COMMANDS.items()
        if name not in BY_HAND
        for command in body["Metadata"]["Commands"]
        for right in of_command(command)
    }
    assert sorted(beyond(needed)) == []
    elsewhere: set[Right] = {
        ("Allow", "iam:PassRole", "*", ""),
        ("Allow", "s3:GetObject", "arn:aws:s3:::theirs/secret", ""),
        ("Allow", "ssm:PutParameter", "arn:aws:ssm:*:*:parameter/theirs", ""),
        ("Allow", "sts:AssumeRole", "*", ""),
    }
    assert len(list(beyond(elsewhere))) == len(elsewhere)
    assert not list(
        beyond({("Allow", "iam:PassRole", "arn:aws:iam::*:role/golden-ami-instance", "")})
    )


@pytest.mark.parametrize(("name", "arn"), [("Bucket", BUCKET), ("UsersBucket", USERS_BUCKET)])
def test_a_bucket_is_private_encrypted_versioned_and_for_tls(name: str, arn: str) -> None:
    bucket = RAW[name]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "SSEAlgorithm" in str(bucket["BucketEncryption"])
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    [statement] = RESOURCES[f"{name}Policy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == (
        "Deny",
        "*",
        "s3:*",
    )
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
