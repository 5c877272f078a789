"""What the code asks of AWS and what the policies grant are the same.

Tests of each command hold its policy to its requests; here is what no test runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from ec2_emulator import iam
from support import trees
from support.builds.tools import POLICIES, ROOT, granted

SERVICES = """
autoscaling budgets ce cloudformation cloudtrail cloudwatch dynamodb ebs ec2 iam kms pricing s3
savingsplans sns ssm sts
"""
OF_ONE_WORD = {"sign", "publish", "scan"}
"""Methods that look like other names."""
PLACES = (
    "scripts/goldenami/aws",
    "scripts/goldenami_fleet",
    "roles/golden_idle/files",
    "roles/jupyterhub/files",
)
BY_AN_ADMINISTRATOR = {
    "aws/services/stacks.py",
    "goldenami_fleet/account/account_plan.py",
    "goldenami_fleet/cluster/launches.py",
    "goldenami_fleet/cluster/cluster_removal.py",
    "goldenami_fleet/cluster/cluster_template.py",
    "goldenami_fleet/selftest/",
}
"""Modules of `golden account`, `golden cluster` and `golden selftest`: docs/aws-account.md and
docs/operate/cluster.md ask for an administrator's credentials."""
OF_SELFTESTS = {"scan", "disable_image_deregistration_protection", "delete_auto_scaling_group"}
"""Methods by which a sweep finds and removes what a self-test left, with an administrator's
credentials."""
BESIDE = {
    "ec2:CreateImage": "Packer makes the AMI",
    "ec2:ModifyInstanceAttribute": "Packer sets ENA support",
    "iam:CreateServiceLinkedRole": "EC2 asks for it at an account's first Spot request",
    "iam:PassRole": "a launch with a profile",
    "s3:AbortMultipartUpload": "s3transfer gives an upload up",
}
"""Rights for what no code of ours calls by name. Those of a registry are its protocol's."""


def operations() -> dict[str, set[str]]:
    """IAM's actions by the names of boto3's methods."""
    found: dict[str, set[str]] = {}
    session = botocore.session.get_session()
    for service in SERVICES.split():
        for operation in session.get_service_model(service).operation_names:
            name = f"{service}:{operation}"
            found.setdefault(xform_name(operation), set()).update(
                iam.OTHER_ACTIONS.get(name, (name,))
            )
    return {name: actions for name, actions in found.items() if "_" in name or name in OF_ONE_WORD}


OPERATIONS = operations()


def called(path: Path) -> Iterator[str]:
    """Methods of boto3 that a module names: as an attribute, or as text for a paginator."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.attr if isinstance(node, ast.Attribute) else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        if name in OPERATIONS:
            yield name


@pytest.fixture(scope="module")
def calls() -> dict[str, set[str]]:
    """The methods of each module."""
    paths = [path for place in PLACES for path in (ROOT / place).rglob("*.py")]
    assert len(paths) > 80
    found = {str(path.relative_to(ROOT)): set(called(path)) for path in paths}
    return {path: names for path, names in found.items() if names}


def test_each_call_is_granted(calls: dict[str, set[str]]) -> None:
    rights = {action for path in POLICIES.glob("*.json") for action in granted(path.stem)}
    asked = [
        (path, name)
        for path, names in calls.items()
        if not any(part in path for part in BY_AN_ADMINISTRATOR)
        for name in names - OF_SELFTESTS
    ]
    assert len(asked) > 120
    assert [
        pair for pair in asked if OPERATIONS[pair[1]] and not OPERATIONS[pair[1]] & rights
    ] == []


@pytest.mark.parametrize(
    "policy", trees.scanned(19, POLICIES, "*.json"), ids=lambda path: path.stem
)
def test_each_right_is_asked_for(policy: Path, calls: dict[str, set[str]]) -> None:
    asked = {action for names in calls.values() for name in names for action in OPERATIONS[name]}
    asked |= {action for *_, actions in iam.EXTRA.values() for action in actions}
    left = {action for action in granted(policy.stem) if not action.startswith("ecr:")} - asked
    assert left <= BESIDE.keys()
