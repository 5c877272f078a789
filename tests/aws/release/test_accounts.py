"""Which account is published to, and whom its AMIs are shared with."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState

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
    answer = state.ec2.describe_image_attribute(
        ImageId=state.parameter("latest"), Attribute="launchPermission"
    )
    assert answer["LaunchPermissions"] == [{"OrganizationArn": ORGANIZATION}]
    assert "nothing to do" in checkout.golden("publish", IMAGE).text
