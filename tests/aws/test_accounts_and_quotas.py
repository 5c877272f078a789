"""Which account is published to, whom its AMIs are shared with, and what its quotas say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from goldenami.aws import session
from goldenami.core.errors import StageFailed, Unreachable
from support.aws.emulator import Emulator, Faults
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


@pytest.mark.parametrize(("mode", "said"), [("throttled", "AWS throttled DescribeImages in eu-west-1"),
                                            ("cut", "AWS did not answer in eu-west-1")])
def test_an_error_names_its_region(aws: Emulator, mode: str, said: str) -> None:
    aws.late({"mode": mode, "share": 1.0})
    with pytest.raises(Unreachable, match=said), session.translated():
        session.Account(attempts=1).ec2("eu-west-1").describe_images(Owners=["self"])


def test_the_wrong_account_gets_nothing(checkout: Checkout, build: Path, aws: Emulator) -> None:
    define(checkout, f'account: "{THEIRS}"')
    ran = checkout.golden("publish", IMAGE)
    assert ran.code == 8
    assert f"these credentials are of account {OURS}, and the definition wants {THEIRS}" in ran.text
    assert {call.partition(":")[2][:3] for call, _ in aws.calls()} <= {"Get", "Des"}, "it was only looked at"


def test_every_command_that_changes_something_asks_whose_account_it_is(checkout: Checkout, build: Path) -> None:
    define(checkout, f'account: "{OURS}"')
    assert checkout.golden("publish", IMAGE).code == 0
    builds.build(checkout.root, 2)
    assert checkout.golden("publish", IMAGE).code == 0
    before = RegionState(REGION).parameter("latest")
    define(checkout, f'account: "{THEIRS}"')
    for command in ("publish", "promote", "rollback", "retire"):
        ran = checkout.golden(command, IMAGE)
        assert (ran.code, f"the definition wants {THEIRS}" in ran.text) == (8, True), ran.text
    assert RegionState(REGION).parameter("latest") == before


def test_an_organization_may_launch(checkout: Checkout, build: Path) -> None:
    define(checkout, f'share_with: ["{ORGANIZATION}"]')
    assert checkout.golden("publish", IMAGE).code == 0
    state = RegionState(REGION)
    answer = state.ec2.describe_image_attribute(ImageId=state.parameter("latest"), Attribute="launchPermission")
    assert answer["LaunchPermissions"] == [{"OrganizationArn": ORGANIZATION}]
    assert "nothing to do" in checkout.golden("publish", IMAGE).text


@pytest.mark.parametrize(("code", "advice"), [
    ("ResourceLimitExceeded", "20 copies of snapshots"), ("PendingSnapshotLimitExceeded", "`golden sweep`"),
    ("SnapshotLimitExceeded", "`golden retire IMAGE` deletes"), ("ParameterMaxVersionLimitExceeded", "take it off"),
    ("VersionLimitExceeded", "10,000 versions"), ("VcpuLimitExceeded", "remove what is not needed"),
    ("ServiceQuotaExceededException", "unfinished snapshots"),
])
def test_a_quota_says_which_and_what_to_do(code: str, advice: str) -> None:
    error = session.translate(ClientError({"Error": {"Code": code, "Message": "Too many."}}, "CopyImage"), REGION)
    assert isinstance(error, StageFailed)
    assert f"a quota of the account is reached (CopyImage in {REGION}: {code}): Too many" in error.message
    assert advice in error.hint and "Service Quotas" in error.hint
    busy = session.translate(ClientError({"Error": {"Code": "RequestLimitExceeded"}}, "CopyImage"), REGION)
    assert isinstance(busy, Unreachable), "a rate is no quota"


def test_a_quota_stops_a_publish_and_the_same_command_continues(
    checkout: Checkout, build: Path, faults: Faults,
) -> None:
    define(checkout, "soak_hours: 0")
    faults.add("ssm", "PutParameter", error={"code": "ParameterLimitExceeded", "status": 400})
    ran = checkout.golden("publish", IMAGE)
    assert ran.code == 5 and "delete records that nobody needs, or ask for more in Service Quotas" in ran.text
    faults.clear()
    assert checkout.golden("publish", IMAGE).code == 0
    RegionState(REGION).check([build.name], build.name)


def test_policies_name_their_partition_in_one_way() -> None:
    """So that one replacement makes them those of another partition (docs/account-settings.md)."""
    for path in trees.scanned(19, POLICIES, "*.json"):
        arns = re.findall(r'"(arn[^"]*)"', path.read_text(encoding="utf-8"))
        assert [arn for arn in arns if not arn.startswith("arn:aws:")] == [], path.name


def test_an_account_has_one_session_for_all_its_clients() -> None:
    account = session.Account()
    hasty = account.with_short_timeouts()
    account.ec2(REGION)
    hasty.dynamodb(REGION)
    assert len(account._sessions) == 1 and account._sessions is hasty._sessions
