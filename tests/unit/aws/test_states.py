"""States and codes that the code compares answers with are those of botocore's models.

A misspelt one is no error: the comparison never holds."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import botocore.session
import pytest
from goldenami.aws import images
from goldenami.aws.channels import refresh
from goldenami.aws.instances import instances
from goldenami.aws.inventory import inventory, removal
from goldenami.aws.services import stacks
from goldenami.aws.snapshots import encryption
from support import trees
from support.builds.tools import ROOT

SESSION = botocore.session.get_session()
ROWS: list[tuple[str, str, Collection[str]]] = [
    ("autoscaling", "InstanceRefreshStatus", refresh.UNDER_WAY),
    ("cloudformation", "StackStatus", stacks._DONE),
    ("cloudformation", "StackStatus", {*stacks._GOES_AWAY, stacks._HALF_BACK}),
    ("ec2", "BatchState", inventory.SPOT_FLEET_ENDED),
    ("ec2", "FleetStateCode", inventory.FLEET_ENDED),
    ("ec2", "ImageState", set(images.AmiState)),
    ("ec2", "InstanceStateName", instances._ALIVE),
    ("ec2", "InstanceStateName", inventory.NOT_TERMINATED[0]["Values"]),
    ("ec2", "LaunchTemplateErrorCode", removal._VERSION_GONE),
    ("ec2", "SpotInstanceState", inventory.SPOT_REQUEST_ENDED),
    ("kms", "KeyState", encryption.USABLE),
]
"""A service, a shape with an enum, and what we take to be values of it."""


def values(service: str, shape: str) -> set[str]:
    return set(SESSION.get_service_model(service).shape_for(shape).enum)


@pytest.mark.parametrize(("service", "shape", "ours"), ROWS, ids=[row[1] for row in ROWS])
def test_aws_has_the_state(service: str, shape: str, ours: Collection[str]) -> None:
    assert ours and set(ours) <= values(service, shape)


ENDS = ("cancelled", "deleted", "failed", "closed", "terminat")


@pytest.mark.parametrize(
    ("shape", "ours"),
    [
        ("BatchState", inventory.SPOT_FLEET_ENDED),
        ("FleetStateCode", inventory.FLEET_ENDED),
        ("SpotInstanceState", inventory.SPOT_REQUEST_ENDED),
    ],
)
def test_each_end_of_a_fleet_is_known(shape: str, ours: Collection[str]) -> None:
    """What has ended keeps no image."""
    assert {state for state in values("ec2", shape) if state.startswith(ENDS)} == set(ours)


CODE = re.compile(r'"([A-Z]\w+(?:Error|Exceeded|Exception|Fault|Found|InProgress|Updates))"')
OF_EC2 = {"InstanceLimitExceeded", "ResourceLimitExceeded"}
"""EC2's model lists no codes."""
NO_CODES = {"error_kinds.py": "codes of all services", "removal.py": "ResponseError, a member"}


def test_each_error_code_is_in_a_model() -> None:
    services = ("autoscaling", "ce", "cloudformation", "dynamodb", "ebs", "kms", "s3", "ssm")
    known = {
        shape.error_code
        for service in services
        for shape in SESSION.get_service_model(service).error_shapes
    }
    paths: list[Path] = trees.scanned(46, ROOT / "scripts/goldenami/aws", "**/*.py")
    named = {
        match[1]
        for path in paths
        if path.name not in NO_CODES
        for match in CODE.finditer(path.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert named - known == OF_EC2
