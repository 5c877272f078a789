"""The probes of `golden selftest`, asked of the emulator: it keeps each rule, and what it does not
keep is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from goldenami.aws.contract import CONTRACT
from goldenami.aws.session import Account
from goldenami.model.operation.residency import AllowedRegions
from goldenami_fleet.selftest.probes.ground import Ground
from goldenami_fleet.selftest.probes.probes import LIFE, NOT_ASKED, PROBES
from support.aws.emulator import REGION, Emulator


@pytest.fixture
def ground(aws: Emulator) -> Iterator[Ground]:
    """An empty account, where no refresh ends by itself."""
    aws.set(refresh_s=3600, pending_s=0)
    made = Ground(Account(AllowedRegions(rules=())), REGION, "golden-probes")
    yield made
    made.close()


def test_the_emulator_does_what_we_take_aws_to_do(ground: Ground) -> None:
    found = [(probe.rule, probe.expects, probe.run(ground)) for probe in PROBES]
    assert [each for each in found if each[1] != each[2]] == []


def test_each_rule_is_asked_for_or_it_is_said_why_not() -> None:
    asked = {probe.rule for probe in PROBES}
    # The preflight's rules are what it looks at itself.
    rules = {name for name, row in CONTRACT.items() if row.step != "preflight"}
    assert sorted([*asked, *LIFE, *NOT_ASKED]) == sorted(rules)
