"""Which account is published to, whom its AMIs are shared with, and what its quotas say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from goldenami.aws import session
from goldenami.core.errors import StageFailed, Unreachable
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState
from support.builds.tools import POLICIES
from support.rules import trees

REGION = "us-east-1"
OURS, THEIRS = "123456789012", "210987654321"
ORGANIZATION = f"arn:aws:organizations::{OURS}:organization/o-abcdefghij"


@pytest.fixture
def build(checkout: Checkout) -> Path:
    return builds.build(checkout.root, 1)


def define(checkout: Checkout, more: str) -> None:
    checkout.define(f"publish: {{regions: [{REGION}], {more}}}\n")


def test_every_command_that_changes_something_asks_whose_account_it_is(
    checkout: Checkout, build: Path
) -> None:
    define(checkout, f'account: "{OURS}"')
    checkout.run("publish", IMAGE)
    builds.build(checkout.root, 2)
    checkout.run("publish", IMAGE)
    before = RegionState(REGION).parameter("latest")
    define(checkout, f'account: "{THEIRS}"')
    for command in ("publish", "promote", "rollback", "retire"):
        assert f"the definition wants {THEIRS}" in checkout.run(command, IMAGE, code=8)
    assert RegionState(REGION).parameter("latest") == before


def test_an_organization_may_launch(checkout: Checkout, build: Path) -> None:
    define(checkout, f'share_with: ["{ORGANIZATION}"]')
    checkout.run("publish", IMAGE)
    state = RegionState(REGION)
    answer = state.ec2.describe_image_attribute(ImageId=state.parameter("latest"),
                                                Attribute="launchPermission")
    assert answer["LaunchPermissions"] == [{"OrganizationArn": ORGANIZATION}]
    assert "nothing to do" in checkout.golden("publish", IMAGE).text


@pytest.mark.parametrize(("code", "advice"), [
    ("ResourceLimitExceeded", "20 copies of snapshots"), ("PendingSnapshotLimitExceeded", "`golden sweep`"),
    ("SnapshotLimitExceeded", "`golden retire IMAGE` deletes"), ("ParameterMaxVersionLimitExceeded", "take it off"),
    ("VersionLimitExceeded", "10,000 versions"), ("VcpuLimitExceeded", "remove what is not needed"),
    ("ServiceQuotaExceededException", "unfinished snapshots"),
])
def test_a_quota_says_which_and_what_to_do(code: str, advice: str) -> None:
    error = session.translate(ClientError({"Error": {"Code": code, "Message": "Too many."}},
                                          "CopyImage"), REGION)
    assert isinstance(error, StageFailed)
    assert (
        f"a quota of the account is reached (CopyImage in {REGION}: {code}): Too many"
        in error.message
    )
    assert advice in error.hint and "Service Quotas" in error.hint
    busy = session.translate(ClientError({"Error": {"Code": "RequestLimitExceeded"}}, "CopyImage"),
                             REGION)
    assert isinstance(busy, Unreachable), "a rate is no quota"


def test_policies_name_their_partition_in_one_way() -> None:
    """So that one replacement makes them those of another partition (docs/account-settings.md)."""
    for path in trees.scanned(19, POLICIES, "*.json"):
        arns = re.findall(r'"(arn[^"]*)"', path.read_text(encoding="utf-8"))
        assert [arn for arn in arns if not arn.startswith("arn:aws:")] == [], path.name
