from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from goldenami.aws.channels.pointers import build_name
from goldenami.aws.inventory import references
from goldenami.aws.inventory.topology import (
    AccountAmi,
    Launcher,
    LauncherKind,
    TemplateUse,
    TemplateVersion,
    Topology,
)
from goldenami.release.retire import retention
from goldenami.release.retire.retention import RegionRetirePlan, RetentionPolicy, RetireStep
from hypothesis import HealthCheck, Phase, given, settings
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

Planner = Callable[[Topology, str, RetentionPolicy, datetime], RegionRetirePlan]
DESTRUCTIVE = {RetireStep.DEPRECATE, RetireStep.DISABLE, RetireStep.DEREGISTER,
               RetireStep.NOTE_DISABLED}


def check_account(
    topology: Topology, policy: RetentionPolicy, planner: Planner | None = None
) -> None:
    """Runs retirement until nothing more is due, with enough time between, and judges each run and
    the end."""
    account, now = Account(topology), NOW
    planner = planner or retention.plan
    foreign = [ami for ami in topology.amis if ami.image != IMAGE or not proven(topology, ami)]
    # Within the account's ages, then beyond all; six uploads in a chain.
    for pause in (*[10] * 4, 500, *[10] * 18):
        planned = planner(account.topology, IMAGE, policy, now)
        if not planned.actions and now > NOW + timedelta(days=500):
            break
        check_run(account.topology, planned, policy, now)
        account.carry_out(planned, policy, now)
        now += timedelta(days=pause, seconds=1)
    assert not planner(account.topology, IMAGE, policy, now).actions, "it never settles"
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
    records = {name.split("/")[-1] for name, value in topology.parameters.items()
               if name.startswith(f"/golden-ami/{IMAGE}/") and value.startswith("ami-")}
    orphans = [snapshot.id for snapshot in topology.snapshots
               if snapshot.image == IMAGE and snapshot.id not in held
               and (snapshot.expires is not None
                    or (snapshot.state == "completed" and snapshot.build_id in records))]
    assert not orphans, "a snapshot was left behind"
    snapshots = {snapshot.build_id for snapshot in topology.snapshots if snapshot.image == IMAGE}
    images = {ami.id for ami in topology.amis} | alive(topology)
    dead = [name for name, value in topology.parameters.items()
            if name.startswith(f"/golden-ami/{IMAGE}/") and name.split("/")[-1] in BUILDS
            and value.startswith("ami-") and value not in images
            and name.split("/")[-1] not in snapshots]
    assert not dead, "a record was left behind"


@settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(accounts, policies)
def test_random_accounts(topology: Topology, policy: RetentionPolicy) -> None:
    check_account(topology, policy)


@pytest.mark.slow
@pytest.mark.long
@settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(accounts, policies)
def test_ten_thousand_random_accounts(topology: Topology, policy: RetentionPolicy) -> None:
    check_account(topology, policy)


def _without(**hidden: Any) -> Planner:
    return lambda found, image, policy, now: retention.plan(
        replace(found, **hidden), image, policy, now
    )


def _no(kind: LauncherKind) -> Planner:
    return lambda found, image, policy, now: retention.plan(replace(found, launchers=tuple(
        launcher for launcher in found.launchers if launcher.kind is not kind)), image, policy, now)


def _amis(change: Callable[[AccountAmi], AccountAmi]) -> Planner:
    return lambda found, image, policy, now: retention.plan(
        replace(found, amis=tuple(map(change, found.amis))), image, policy, now)


def _records_only(
    found: Topology, image: str, policy: RetentionPolicy, now: datetime
) -> RegionRetirePlan:
    records = {name: value for name, value in found.parameters.items()
               if re.search("/[0-9a-f]{12}$", name)}
    return retention.plan(replace(found, parameters=records), image, policy, now)


def _policy(change: Callable[[RetentionPolicy], RetentionPolicy]) -> Planner:
    return lambda found, image, policy, now: retention.plan(found, image, change(policy), now)


def _steps(*kept: RetireStep) -> Planner:
    def planner(
        found: Topology, image: str, policy: RetentionPolicy, now: datetime
    ) -> RegionRetirePlan:
        made = retention.plan(found, image, policy, now)
        return made.model_copy(update={"actions": [action for action in made.actions
                                                   if action.step in kept]})
    return planner


BLIND: dict[str, Planner] = {
    "templates": _without(templates=()),
    "configurations": _without(configurations={}),
    "volumes of configurations": _without(configured={}),
    "shares of snapshots": _without(shared_snapshots={}),
    "volumes of launchers": lambda found, image, policy, now: retention.plan(
        replace(
            found, launchers=tuple(replace(launcher, snapshots=()) for launcher in found.launchers)
        ),
        image,
        policy,
        now,
    ),
    **{kind.value: _no(kind) for kind in LauncherKind},
    "ledger": _without(pointers={}),
    "instances": _without(instances=()),
    "volumes": _without(volumes=()),
    "parameters": _records_only,
    "protection": _amis(lambda ami: replace(ami, protected=False)),
    "shares": _amis(lambda ami: replace(ami, shared_with=())),
    "tags alone": lambda found, image, policy, now: retention.plan(
        replace(
            found,
            parameters={
                **found.parameters,
                **{build_name(ami.image, ami.build_id): ami.id for ami in found.amis if ami.image},
            },
        ),
        image,
        policy,
        now,
    ),
    "uploads": lambda found, image, policy, now: retention.plan(
        replace(
            found, snapshots=tuple(replace(snapshot, parent="") for snapshot in found.snapshots)
        ),
        image,
        policy,
        now,
    ),
    "newest": _policy(
        lambda policy: policy.model_copy(update={"keep_last": max(policy.keep_last - 1, 0)})
    ),
    "age": _policy(lambda policy: policy.model_copy(update={"max_age_days": 0})),
    "waits": _policy(
        lambda policy: policy.model_copy(
            update={"disable_after_days": 0, "deregister_after_days": 0}
        )
    ),
    "keeps too many": _policy(
        lambda policy: policy.model_copy(update={"keep_last": policy.keep_last + 1})
    ),
    "leaves snapshots": _steps(
        *(step for step in RetireStep if step is not RetireStep.DELETE_SNAPSHOT)
    ),
    "leaves records": _steps(
        *(step for step in RetireStep if step is not RetireStep.DELETE_RECORD)
    ),
    "never deregisters": _steps(
        *(step for step in RetireStep if step is not RetireStep.DEREGISTER)
    ),
}
"""Planners with one defect each."""


class AllSeen(Exception):
    """The oracle noticed every defect."""


@pytest.mark.long
def test_the_oracle_notices_each_defect() -> None:
    """Of the same accounts: each goes to the planners whose defect no account has shown yet."""
    unseen = dict(BLIND)

    @settings(max_examples=4000, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck), derandomize=True)
    @given(accounts, policies)
    def judge(topology: Topology, policy: RetentionPolicy) -> None:
        for defect, planner in list(unseen.items()):
            try:
                check_account(topology, policy, planner)
            except AssertionError:
                del unseen[defect]
        if not unseen:
            raise AllSeen

    with pytest.raises(AllSeen):
        judge()
        pytest.fail(f"not noticed: {', '.join(unseen)}")


@pytest.mark.parametrize("kind", LauncherKind)
@pytest.mark.parametrize("name", ["lt-1", f"golden-{IMAGE}"])
def test_a_version_of_our_template_is_idle_until_something_launches_from_it(
    name: str, kind: LauncherKind
) -> None:
    default, old, latest = (
        TemplateVersion("lt-1", f"golden-{IMAGE}", number, f"ami-{number:017x}",
                        default=number == 1,
                        latest=number == 3, image=IMAGE) for number in (1, 2, 3))
    found = Topology("eu-west-1", templates=(default, old, latest))
    assert references.idle(found) == (old,)
    launcher = Launcher(kind, "one", templates=(TemplateUse(name, "2"),))
    assert references.idle(replace(found, launchers=(launcher,))) == ()
