"""The probes of `golden selftest`, asked of the emulator: it keeps each rule, and what it does not
keep is seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from botocore.exceptions import ClientError
from goldenami import cli
from goldenami.aws.contract import CONTRACT
from goldenami.aws.session import Account
from goldenami.core.errors import GoldenError
from goldenami.model.operation.residency import AllowedRegions
from goldenami_fleet.selftest.probes import asking
from goldenami_fleet.selftest.probes.ground import Ground, Probe
from goldenami_fleet.selftest.probes.probes import LIFE, NOT_ASKED, PROBES
from support.aws.emulator import REGION, Emulator

ASKED = list(dict.fromkeys(probe.rule for probe in PROBES))


@pytest.fixture
def ground(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """An empty account where nothing is pending, so nothing is waited for, and where no refresh
    ends by itself."""
    monkeypatch.setattr(asking, "LIMIT_S", 0.0)
    monkeypatch.setattr(asking, "LATE_S", 0.0)
    aws.set(refresh_s=3600, pending_s=0)
    made = Ground(Account(AllowedRegions(rules=())), REGION, "golden-probes")
    yield made
    aws.set(broken=[])
    made.close()


def differing(ground: Ground, probes: Iterable[Probe]) -> dict[str, str]:
    """What AWS did of what differs, by rule."""
    found: dict[str, str] = {}
    for probe in probes:
        try:
            answer = probe.run(ground)
        except (ClientError, GoldenError) as error:
            answer = str(error)
        if answer != probe.expects:
            found[probe.rule] = answer
    return found


def left(ground: Ground) -> list[object]:
    """What a region has."""
    ec2, autoscaling = ground.ec2, ground.autoscaling
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}]
    return [
        *ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
        *ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"],
        *ec2.describe_instances(Filters=alive)["Reservations"],
        *ec2.describe_volumes()["Volumes"],
        *ec2.describe_launch_templates()["LaunchTemplates"],
        *autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"],
        *ground.ssm.describe_parameters()["Parameters"],
    ]


def test_the_emulator_does_what_we_take_aws_to_do(ground: Ground) -> None:
    assert differing(ground, PROBES) == {}
    assert len(left(ground)) > 15
    ground.close()
    assert left(ground) == []


def test_each_rule_is_asked_for_or_it_is_said_why_not() -> None:
    # The preflight's rules are what it looks at itself.
    rules = {name for name, row in CONTRACT.items() if row.step != "preflight"}
    assert sorted([*ASKED, *LIFE, *NOT_ASKED]) == sorted(rules)
    assert len(ASKED) > 45
    assert set(LIFE.values()) <= set(cli.MODULES) and all(NOT_ASKED.values())


@pytest.mark.parametrize("rule", ASKED)
def test_a_rule_that_is_not_kept_is_named(rule: str, ground: Ground, aws: Emulator) -> None:
    aws.set(broken=[rule])
    assert [*differing(ground, [probe for probe in PROBES if probe.rule == rule])] == [rule]


ALSO = {
    "pending_until_complete": {"snapshot_is_ready", "readable_when_complete"},
    "key_works": {"copy_image"},
    "tags_for": {"copy_image"},
    "one_refresh_at_a_time": {"describe_instance_refreshes"},
    "describe_launch_templates": {"paginate"},
}
"""Rules of one mechanism: if the first is not kept, neither are the others."""


@pytest.mark.long
@pytest.mark.parametrize("rule", ASKED)
def test_no_other_rule_is_named(rule: str, ground: Ground, aws: Emulator) -> None:
    aws.set(broken=[rule])
    assert {*differing(ground, PROBES)} == {rule, *ALSO.get(rule, ())}


def test_what_was_made_goes_though_a_probe_fails(ground: Ground, aws: Emulator) -> None:
    """Also what was granted that was to be refused."""
    aws.set(broken=["allowed_type", "group_type", "name_is_free", "tags_for"])
    assert len(differing(ground, PROBES)) > 3
    aws.set(denied={"*": ["ssm:DeleteParameters"]}, broken=[])
    with pytest.raises(ClientError, match="DeleteParameters"):
        ground.close()
    assert left(ground) == ground.ssm.describe_parameters()["Parameters"] != []
    aws.set(denied={})
