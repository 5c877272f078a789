"""A model that is checked: people, kills, outages, late answers and changed definitions in any
order, by hypothesis.

After each step it holds: what others launch by is a proven build that can be launched, and nothing
of it went; what somebody refers to is there; who says 0 left all regions alike; who says another
code named the regions that are not; every snapshot is an AMI's or has a date on which it may be
swept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from botocore.exceptions import ClientError
from goldenami.aws import tags
from goldenami.aws.channels.ledger import Ledger
from goldenami.core.errors import ExitCode
from goldenami.model.builds.build_records import Verdict
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support.aws import references
from support.aws.emulator import Emulator, retry_at_once
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.aws.retirement import GRACELESS
from support.aws.seeded_account import SeededAccount
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, Ran, RegionState

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
PEOPLE = st.integers(0, 1)
INTERNAL = 1
DONE = (ExitCode.OK, ExitCode.HELD_BACK)
REFUSED = (2, 6)
"""Exit codes of what was refused before anything was done: bad input, a build that is not
proven."""
FIRST_CALL = "GetCallerIdentity"
"""Each command asks first whose account it is in; one that got no answer did nothing, and can name
no region."""
KILLED_AT = (
    "ssm:PutParameter",
    "ec2:ModifyLaunchTemplate",
    "ec2:CreateLaunchTemplateVersion",
    "dynamodb:UpdateItem",
    "ec2:RegisterImage",
    "ebs:StartSnapshot",
    "ebs:CompleteSnapshot",
    "ec2:DescribeImages",
)
LATE: tuple[dict[str, Any], ...] = (
    {"mode": "stale", "share": 0.5, "seconds": 0.5},
    {"mode": "not-found", "calls": ["ec2:Describe*"], "seconds": 0.3},
    {"mode": "throttled", "share": 0.5},
    {"mode": "lost", "share": 0.1},
    {"mode": "cut", "share": 0.2},
    {"mode": "in-use", "seconds": 0.3},
)
GONE: tuple[dict[str, Any], ...] = (
    {"mode": "out"},
    {"mode": "cut"},
    {"mode": "throttled", "share": 0.65},
    {"mode": "hanging", "seconds": 0.05},
)

REFERENCES: tuple[Callable[[SeededAccount, str], None], ...] = (
    references.by_instance,
    references.by_volume,
    references.by_spot_fleet,
    references.by_spot_fleet_of_a_volume,
    references.by_spot_request,
    references.by_share_of_a_snapshot,
)
"""What people do with an AMI of any age, as often as they like; half of it names the snapshot
only."""


class AccountModel(RuleBasedStateMachine):
    """One account, two people with a checkout each."""

    steps = 0

    def __init__(
        self, aws: Emulator, kill_proxy: KillProxy, checkouts: Callable[[], list[Checkout]]
    ) -> None:
        super().__init__()
        self.aws, self.kill_proxy, self.people = aws, kill_proxy, checkouts()
        self.number, self.proven = 0, set[str]()
        self.regions: list[str] = []
        self.used = set[tuple[str, str]]()
        self.before: dict[str, str | None] = {}
        self.late_rules: list[dict[str, Any]] = []

    @initialize()
    def begin(self) -> None:
        """An empty account in which everything seems old, and a first build."""
        self.aws.reset()
        self.aws.set(pending_s=0.01, backdate_days=400)
        self.change_definition([0, 1], 0)
        self.bake(0, works=True)
        assert self.golden(0, "publish", IMAGE).code == 0

    # --- what people do ---

    @rule(person=PEOPLE, works=st.sampled_from([True, True, True, False]))
    def bake(self, person: int, works: bool) -> None:
        """A new build; one that does not work has a failed check."""
        self.number += 1
        folder = builds.build(self.people[person].root, self.number)
        if works:
            self.proven.add(folder.name)
        else:
            builds.write_verify(
                folder, verdict=Verdict.NOT_VERIFIED, checks=builds.wrong("boot/imdsv2")
            )

    @rule(person=PEOPLE)
    def publish(self, person: int) -> None:
        """The newest build of that person's checkout."""
        self.moved(person, self.golden(person, "publish", IMAGE))

    @rule(person=PEOPLE)
    def promote(self, person: int) -> None:
        self.moved(person, self.golden(person, "promote", IMAGE, "--now"))

    @rule(person=PEOPLE, times=st.integers(1, 2))
    def rollback(self, person: int, times: int) -> None:
        """Once, or twice with the same result; never to what any region of the definition
        withdrew."""
        self.looking()
        withdrawn = {
            build for region in self.regions for build in _ledger(RegionState(region)).withdrawn
        }
        self.aws.late(*self.late_rules)
        first = self.golden(person, "rollback", IMAGE)
        self.moved(person, first)
        if first.code == 0:
            self.looking()
            named = {region: RegionState(region).ledger().latest for region in self.regions}
            self.aws.late(*self.late_rules)
            assert not [
                entry for entry in named.values() if entry and entry.build_id in withdrawn
            ], first.text
        if first.code == 0 and times == 2:
            was = self.latest()
            again = self.golden(person, "rollback", IMAGE)
            assert self.latest() == was, again.text
            assert again.code or "is already at" in again.text, again.text

    @rule(person=PEOPLE, build=st.integers(0, 5))
    def rollback_to(self, person: int, build: int) -> None:
        names = sorted(self.proven)
        self.moved(
            person, self.golden(person, "rollback", IMAGE, "--to", names[build % len(names)])
        )

    @rule(person=PEOPLE)
    def retire(self, person: int) -> None:
        self.golden(person, "retire", IMAGE, *GRACELESS)

    @rule(
        chosen=st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
        soak=st.sampled_from([0, 0, 1]),
    )
    def change_definition(self, chosen: list[int], soak: int) -> None:
        """Other regions, dropped and added, and another soak, in everybody's checkout."""
        self.regions = [REGIONS[number] for number in sorted(chosen)]
        for checkout in self.people:
            checkout.define(
                f"publish: {{regions: [{', '.join(self.regions)}], soak_hours: {soak}}}\n"
            )

    @rule(
        refer=st.sampled_from(REFERENCES), region=st.sampled_from(REGIONS), number=st.integers(0, 5)
    )
    def use(self, refer: Callable[[SeededAccount, str], None], region: str, number: int) -> None:
        """Somebody launches an AMI of a region, or has a volume of its snapshot, or will."""
        self.looking()
        amis = [
            raw["ImageId"]
            for raw in RegionState(region).amis().values()
            if raw["State"] == "available"
        ]
        if amis:
            ami = sorted(amis)[number % len(amis)]
            refer(SeededAccount(self.aws, region), ami)
            self.used.add((region, ami))
        self.aws.late(*self.late_rules)

    # --- what happens to them ---

    @rule(number=st.integers(0, len(LATE) - 1), seed=st.integers(0, 999))
    def answer_late(self, number: int, seed: int) -> None:
        self.late_rules.append(LATE[number])
        self.aws.late(*self.late_rules, seed=seed)

    @rule(number=st.integers(0, len(GONE) - 1), region=st.sampled_from(REGIONS))
    def lose_a_region(self, number: int, region: str) -> None:
        """One region does not answer, or rarely."""
        self.late_rules.append({**GONE[number], "regions": [region]})
        self.aws.late(*self.late_rules)

    @rule()
    def heal(self) -> None:
        self.late_rules.clear()
        self.aws.late()

    @rule(
        person=PEOPLE,
        action=st.sampled_from(KILLED_AT),
        region=st.sampled_from(REGIONS),
        call=st.integers(1, 3),
        when=st.sampled_from(When),
        args=st.sampled_from([("publish", IMAGE), ("rollback", IMAGE)]),
    )
    def kill(
        self, person: int, action: str, region: str, call: int, when: When, args: tuple[str, ...]
    ) -> None:
        """A run ends by kill -9 at a call, and is run again."""
        self.heal()
        self.kill_proxy.run(
            self.people[person].root, *args, point=KillPoint(action, region, call, when)
        )
        self.check()
        self.moved(person, self.golden(person, *args))

    @rule(first=PEOPLE)
    def at_once(self, first: int) -> None:
        """One publishes while the other rolls back."""
        self.heal()
        ended: list[tuple[int, str]] = []
        root = self.people[first].root
        thread = Thread(target=lambda: ended.append(self.kill_proxy.run(root, "publish", IMAGE)))
        thread.start()
        ran = self.golden(1 - first, "rollback", IMAGE)
        thread.join()
        assert INTERNAL not in (ran.code, ended[0][0]), (ran.text, ended)

    # --- what holds ---

    def golden(self, person: int, *args: str) -> Ran:
        self.before = self.latest()
        ran = self.people[person].golden(*args)
        assert ran.code != INTERNAL, ran.text
        return ran

    def looking(self) -> None:
        self.aws.late()

    def moved(self, person: int, ran: Ran) -> None:
        """After a command that moves pointers: all is alike, or it named what is not, or it did
        nothing."""
        if ran.code in REFUSED or FIRST_CALL in ran.text:
            assert self.latest() == self.before, ran.text
            return
        self.looking()
        # In a region that was never published to, a candidate that has to stand is all there is.
        empty = [
            region
            for region in self.regions
            if ran.code == ExitCode.HELD_BACK and self.before[region] is None
        ]
        for region in [name for name in self.regions if name not in empty]:
            try:
                agreed = RegionState(region).agree()
                alike = agreed in {
                    RegionState(other).agree() for other in self.regions if other not in empty
                }
            except (AssertionError, LookupError, ClientError) as error:
                agreed, alike = str(error), False
            assert alike or (region in ran.text and ran.code not in DONE), (
                f"{ran.code} {agreed}\n{ran.text}"
            )
        if ran.code in DONE:
            checked = self.people[person].golden("status", IMAGE)
            odd = [
                said
                for said in ("the definition has dropped", "the regions' `latest` differ")
                if said in checked.text
            ]
            assert checked.code == 0 or odd or empty, checked.text + ran.text
            assert all(said in ran.text for said in odd), checked.text + ran.text
        self.aws.late(*self.late_rules)

    def latest(self) -> dict[str, str | None]:
        self.looking()
        found = {region: RegionState(region).parameter("latest") for region in REGIONS}
        self.aws.late(*self.late_rules)
        return found

    @invariant()
    def check(self) -> None:
        type(self).steps += 1
        self.looking()
        for region in REGIONS:
            self.check_region(RegionState(region))
        self.aws.late(*self.late_rules)

    def check_region(self, state: RegionState) -> None:
        amis = {raw["ImageId"]: raw for raw in state.amis().values()}
        template, ledger = state.template(), _ledger(state)
        named = {
            name: ami
            for name, ami in (
                ("latest", state.parameter("latest")),
                ("candidate", state.parameter("candidate")),
                ("template", template and template["LaunchTemplateData"]["ImageId"]),
                ("ledger", ledger.latest.ami if ledger.latest else None),
            )
            if ami
        }
        for name, ami in named.items():
            assert ami in amis and amis[ami]["State"] == "available", (
                f"{state.region}: {name} names {ami}"
            )
            assert tags.from_list(amis[ami]["Tags"])[tags.BUILD_ID] in self.proven, (
                f"{state.region}: {name} not proven"
            )
        for ami in {ami for region, ami in self.used if region == state.region}:
            assert ami in amis and amis[ami]["State"] == "available", (
                f"{state.region}: {ami} went, which is in use"
            )
        used = {
            device["Ebs"]["SnapshotId"]
            for raw in amis.values()
            for device in raw["BlockDeviceMappings"]
        }
        for snapshot in state.snapshots():
            assert snapshot["SnapshotId"] in used or tags.EXPIRES in tags.from_list(
                snapshot["Tags"]
            ), f"{state.region}: {snapshot['SnapshotId']} is an orphan"


def _ledger(state: RegionState) -> Ledger:
    try:
        item = state.dynamodb.get_item(TableName="golden-ami", Key={"image": {"S": IMAGE}}).get(
            "Item", {}
        )
    except state.dynamodb.exceptions.ResourceNotFoundException:
        return Ledger()
    return Ledger.model_validate_json(item["ledger"]["S"]) if "ledger" in item else Ledger()


@pytest.mark.parametrize(
    ("examples", "steps", "part"),
    [
        pytest.param(3, 30, 0, id="60", marks=pytest.mark.slow),
        pytest.param(10, 30, 0, id="300", marks=pytest.mark.long),
        *[
            pytest.param(25, 50, part, id=f"5000-{part}", marks=pytest.mark.long)
            for part in range(1, 5)
        ],
    ],
)
def test_whatever_happens_the_pointers_hold(
    aws: Emulator,
    kill_proxy: KillProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    examples: int,
    steps: int,
    part: int,
) -> None:
    retry_at_once(monkeypatch)
    made = 0

    def checkouts() -> list[Checkout]:
        nonlocal made
        made += 1
        return [Checkout(tmp_path / f"{made}-{name}", monkeypatch) for name in ("one", "other")]

    AccountModel.steps = 0
    run_state_machine_as_test(
        seed(part)(lambda: AccountModel(aws, kill_proxy, checkouts)),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{AccountModel.steps} steps without a violation")
