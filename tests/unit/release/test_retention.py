from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from goldenami.aws.inventory import references
from goldenami.aws.inventory.topology import (
    Launcher,
    LauncherKind,
    TemplateUse,
    TemplateVersion,
    Topology,
)
from goldenami.release.retire import retention
from goldenami.release.retire.retention import RegionRetirePlan, RetentionPolicy, RetireStep
from hypothesis import HealthCheck, given, settings
from support.aws.accounts import (
    BUILDS,
    IMAGE,
    NOW,
    Account,
    accounts,
    alive,
    must_stay,
    policies,
    proven,
)

DESTRUCTIVE = {
    RetireStep.DEPRECATE,
    RetireStep.DISABLE,
    RetireStep.DEREGISTER,
    RetireStep.NOTE_DISABLED,
}


def check_account(topology: Topology, policy: RetentionPolicy) -> None:
    """Runs retirement until nothing more is due, with enough time between, and judges each run and
    the end."""
    account, now = Account(topology), NOW
    foreign = [ami for ami in topology.amis if ami.image != IMAGE or not proven(topology, ami)]
    # Within the account's ages, then beyond all; six uploads in a chain.
    for pause in (*[10] * 4, 500, *[10] * 18):
        planned = retention.plan(account.topology, IMAGE, policy, now)
        if not planned.actions and now > NOW + timedelta(days=500):
            break
        check_run(account.topology, planned, policy, now)
        account.carry_out(planned, policy, now)
        now += timedelta(days=pause, seconds=1)
    assert not retention.plan(account.topology, IMAGE, policy, now).actions, "it never settles"
    check_end(account.topology, policy, now)
    assert [ami for ami in account.topology.amis if ami in foreign] == foreign, (
        "a foreign AMI was touched"
    )


def check_run(
    topology: Topology, planned: RegionRetirePlan, policy: RetentionPolicy, now: datetime
) -> None:
    stay = must_stay(topology, policy, now)
    touched = {action.target for action in planned.actions if action.step in DESTRUCTIVE}
    assert not touched & stay, "an AMI that has to stay was touched"
    named = touched | {each.target for each in planned.survivors}
    assert {ami.id for ami in topology.amis if ami.image == IMAGE} <= named, (
        "an AMI is neither kept nor going"
    )
    for snapshot in topology.snapshots:
        if snapshot.id in {action.target for action in planned.actions}:
            assert snapshot.image == IMAGE and snapshot.id not in alive(topology)


def check_end(topology: Topology, policy: RetentionPolicy, now: datetime) -> None:
    stay = must_stay(topology, policy, now)
    assert {ami.id for ami in topology.amis} <= stay, (
        "an AMI that nothing needs was kept past its time"
    )
    held = {backing for ami in topology.amis for backing in ami.snapshots} | alive(topology)
    records = {
        name.split("/")[-1]
        for name, value in topology.parameters.items()
        if name.startswith(f"/golden-ami/{IMAGE}/") and value.startswith("ami-")
    }
    orphans = [
        snapshot.id
        for snapshot in topology.snapshots
        if snapshot.image == IMAGE
        and snapshot.id not in held
        and (
            snapshot.expires is not None
            or (snapshot.state == "completed" and snapshot.build_id in records)
        )
    ]
    assert not orphans, "a snapshot was left behind"
    snapshots = {snapshot.build_id for snapshot in topology.snapshots if snapshot.image == IMAGE}
    images = {ami.id for ami in topology.amis} | alive(topology)
    dead = [
        name
        for name, value in topology.parameters.items()
        if name.startswith(f"/golden-ami/{IMAGE}/")
        and name.split("/")[-1] in BUILDS
        and value.startswith("ami-")
        and value not in images
        and name.split("/")[-1] not in snapshots
    ]
    assert not dead, "a record was left behind"


@settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(accounts, policies)
def test_random_accounts(topology: Topology, policy: RetentionPolicy) -> None:
    check_account(topology, policy)


@pytest.mark.slow
@pytest.mark.long
@settings(
    max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(accounts, policies)
def test_ten_thousand_random_accounts(topology: Topology, policy: RetentionPolicy) -> None:
    check_account(topology, policy)


@pytest.mark.parametrize("kind", LauncherKind)
@pytest.mark.parametrize("name", ["lt-1", f"golden-{IMAGE}"])
def test_a_version_of_our_template_is_idle_until_something_launches_from_it(
    name: str, kind: LauncherKind
) -> None:
    default, old, latest = (
        TemplateVersion(
            "lt-1",
            f"golden-{IMAGE}",
            number,
            f"ami-{number:017x}",
            default=number == 1,
            latest=number == 3,
            image=IMAGE,
        )
        for number in (1, 2, 3)
    )
    found = Topology("eu-west-1", templates=(default, old, latest))
    assert references.idle(found) == (old,)
    launcher = Launcher(kind, "one", templates=(TemplateUse(name, "2"),))
    assert references.idle(replace(found, launchers=(launcher,))) == ()
