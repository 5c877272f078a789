"""Random accounts for the tests of retirement, and an oracle that was written without looking at
the implementation.

The oracle knows nothing of references by kind. It draws one graph of everything that holds
something else, and asks what can be reached from what is alive. `Account` carries out plans on a
topology as EC2 would, and refuses what EC2 refuses.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from goldenami.aws.images import AmiState
from goldenami.aws.inventory.topology import (
    AccountAmi,
    AccountInstance,
    AccountSnapshot,
    Launcher,
    LauncherKind,
    SnapshotState,
    TemplateUse,
    TemplateVersion,
    Topology,
)
from goldenami.release.retire.retention import Action, RegionRetirePlan, RetentionPolicy, RetireStep
from hypothesis import strategies as st

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
IMAGE, OTHER = "ml-gpu", "ml-gpu.old"
BUILDS = tuple(f"{number:012x}" for number in range(0xB001, 0xB008))


def ami_id(number: int) -> str:
    return f"ami-{number:017x}"


def snapshot_id(number: int) -> str:
    return f"snap-{number:017x}"


# --- random accounts ---


class Dice(Random):
    """Draws for one account. Hypothesis draws only the seed: its own draws would take 90 % of the
    time, and a random account of five images is small enough to read unshrunk.
    """

    def chance(self, of: float) -> bool:
        return self.random() < of

    def ami(self) -> str:
        return ami_id(self.randrange(6))

    def snapshot(self) -> str:
        return snapshot_id(self.randrange(6))

    def age(self) -> datetime:
        return NOW - timedelta(days=self.randrange(400))

    def maybe_age(self) -> datetime | None:
        return self.age() if self.chance(0.4) else None

    def owner(self) -> str:
        return self.choices([IMAGE, OTHER, ""], [8, 1, 1])[0]

    def reference(self) -> str:
        return (
            self.ami()
            if self.chance(0.6)
            else self.choice(
                [
                    "",
                    "resolve:ssm:/team/base",
                    "resolve:ssm:/team/base:3",
                    "resolve:ssm:flat",
                    "resolve:ssm:/nowhere",
                ]
            )
        )


def _ami(dice: Dice, number: int) -> AccountAmi:
    image, announced = dice.owner(), dice.maybe_age()
    return AccountAmi(
        id=ami_id(number),
        name=f"image {number}",
        created=dice.age(),
        image=image,
        build_id=BUILDS[number - dice.chance(0.1)] if image else "",
        state=dice.choices(
            [AmiState.AVAILABLE, AmiState.DISABLED, AmiState.PENDING, AmiState.FAILED],
            [15, 3, 1, 1],
        )[0],
        snapshots=tuple({snapshot_id(number), *([dice.snapshot()] if dice.chance(0.2) else [])}),
        announced=announced,
        deprecated=announced if dice.chance(0.7) else dice.maybe_age(),
        disabled=dice.maybe_age(),
        protected=dice.chance(0.05),
        shared_with=dice.choices([(), ("111122223333",), ("all",)], [8, 1, 1])[0],
    )


def _snapshot(dice: Dice, number: int, build_id: str) -> AccountSnapshot:
    image = dice.owner()
    return AccountSnapshot(
        id=snapshot_id(number),
        started=dice.age(),
        image=image,
        build_id=(build_id if build_id and dice.chance(0.7) else dice.choice(BUILDS))
        if image
        else "",
        state=SnapshotState.PENDING if dice.chance(0.2) else SnapshotState.COMPLETED,
        expires=NOW + timedelta(days=dice.randrange(-3, 4)) if dice.chance(0.3) else None,
        parent=dice.snapshot() if dice.chance(0.3) else "",
    )


def _parameters(dice: Dice, amis: Iterable[AccountAmi]) -> dict[str, str]:
    found = {
        f"/golden-ami/{ami.image}/{ami.build_id}": ami.id
        for ami in amis
        if ami.image and dice.chance(0.9)
    }
    for name in (
        "flat",
        "/team/base",
        "/team/base:3",
        f"/golden-ami/{IMAGE}/latest",
        f"/golden-ami/{IMAGE}/candidate",
        f"/golden-ami/{OTHER}/latest",
        f"/golden-ami/{IMAGE}/{BUILDS[6]}",
    ):
        if dice.chance(0.15):
            found[name] = (
                dice.ami() if dice.chance(0.8) else f'{{"image": "{dice.ami()}", "user": "admin"}}'
            )
    return found


def _templates(dice: Dice) -> Iterator[TemplateVersion]:
    for template_id, name, ours in (("lt-1", f"golden-{IMAGE}", 0.8), ("lt-2", "theirs", 0.2)):
        image = IMAGE if dice.chance(ours) else ""
        numbers = sorted(dice.sample(range(1, 5), dice.randrange(4)))
        default = dice.choice(numbers) if numbers else 0
        for number in numbers:
            yield TemplateVersion(
                template_id,
                name,
                number,
                dice.reference(),
                default=number == default,
                latest=number == numbers[-1],
                image=image,
                snapshots=(dice.snapshot(),) if dice.chance(0.1) else (),
            )


def _launcher(dice: Dice, kind: LauncherKind) -> Launcher:
    uses = [
        TemplateUse(
            dice.choice(["lt-1", "lt-2", f"golden-{IMAGE}", "theirs"]),
            dice.choice(["$Latest", "$Default", "1", "2", "3", ""]),
        )
        for _ in range(dice.randrange(3))
    ]
    return Launcher(
        kind=kind,
        name=f"{kind.value}-a",
        templates=tuple(uses),
        image_refs=(dice.reference(),) if dice.chance(0.2) else (),
        snapshots=(dice.snapshot(),) if dice.chance(0.1) else (),
    )


def account(seed: int) -> Topology:
    """A region of an account in any state, likely or not."""
    dice = Dice(seed)
    amis = tuple(_ami(dice, number) for number in range(6) if dice.chance(0.7))
    builds = {snapshot: ami.build_id for ami in amis for snapshot in ami.snapshots}
    snapshots = tuple(
        _snapshot(dice, number, builds.get(snapshot_id(number), ""))
        for number in range(6)
        if dice.chance(0.7)
    )
    return Topology(
        region="eu-west-1",
        amis=amis,
        snapshots=snapshots,
        parameters=_parameters(dice, amis),
        templates=tuple(_templates(dice)),
        configurations={"lc-a": dice.ami()} if dice.chance(0.2) else {},
        launchers=tuple(_launcher(dice, kind) for kind in LauncherKind if dice.chance(0.2)),
        instances=(AccountInstance("i-1", dice.ami(), "stopped"),) if dice.chance(0.2) else (),
        volumes={"vol-1": dice.snapshot()} if dice.chance(0.2) else {},
        pointers={"latest": dice.ami()} if dice.chance(0.2) else {},
        configured={"lc-b": (dice.snapshot(),)} if dice.chance(0.1) else {},
        shared_snapshots={dice.snapshot(): ("111122223333",)} if dice.chance(0.1) else {},
    )


accounts = st.builds(account, st.integers(0, 2**64 - 1))
policies = st.builds(
    RetentionPolicy,
    keep_last=st.integers(1, 3),
    max_age_days=st.sampled_from([0, 30, 180]),
    disable_after_days=st.sampled_from([0, 7]),
    deregister_after_days=st.sampled_from([0, 10]),
    release_shared=st.booleans(),
)


# --- the oracle ---


class _Graph:
    """Everything that holds something else, whatever it is."""

    def __init__(self) -> None:
        self.edges: dict[str, set[str]] = {}

    def edge(self, holder: str, held: str) -> None:
        self.edges.setdefault(holder, set()).add(held)

    def image(self, holder: str, reference: str) -> None:
        self.edge(
            holder,
            f"parameter {reference[12:]}" if reference.startswith("resolve:ssm:") else reference,
        )


def alive(account: Topology) -> set[str]:
    """Everything that can be reached from what is in use, whatever it is, by one walk over one
    graph."""
    graph = _Graph()
    _draw_parameters(graph, account)
    _draw_templates(graph, account)
    for value in account.configurations.values():
        graph.edge("in use", value)
    for launcher in account.launchers:
        for use in launcher.templates:
            graph.edge("in use", f"use {use.template} {use.version}")
        for reference in launcher.image_refs:
            graph.image("in use", reference)
    for held in (
        *account.pointers.values(),
        *(instance.image_id for instance in account.instances),
        *account.volumes.values(),
        *account.shared_snapshots,
        *(data for launcher in account.launchers for data in launcher.snapshots),
        *(data for configured in account.configured.values() for data in configured),
        *(snapshot.parent for snapshot in account.snapshots if snapshot.state == "pending"),
    ):
        graph.edge("in use", held)
    for ami in account.amis:
        for backing in ami.snapshots:
            graph.edge(backing, ami.id)
    return _walk(graph.edges, "in use")


def _draw_parameters(graph: _Graph, account: Topology) -> None:
    records = {
        f"/golden-ami/{ami.image}/{ami.build_id} = {ami.id}" for ami in account.amis if ami.build_id
    }
    missing = {
        name
        for name, value in account.parameters.items()
        if len(name.split("/")[-1]) == 12 and value not in {ami.id for ami in account.amis}
    }
    for name, value in account.parameters.items():
        for word in re.split(r"[^-0-9a-z]+", value):
            graph.edge(f"parameter {name}", word)
        if f"{name} = {value}" not in records and name not in missing:
            graph.edge("in use", f"parameter {name}")


def _draw_templates(graph: _Graph, account: Topology) -> None:
    for version in account.templates:
        node = f"template {version.template_id} {version.number}"
        graph.image(node, version.image_ref)
        for data in version.snapshots:
            graph.edge(node, data)
        for alias, wanted in (
            ("$Latest", version.latest),
            ("$Default", version.default),
            ("", version.default),
            (str(version.number), True),
        ):
            if wanted:
                graph.edge(f"use {version.template_id} {alias}", node)
                graph.edge(f"use {version.template} {alias}", node)
        if (
            not (version.image and version.template == "golden-" + version.image)
            or version.default
            or version.latest
        ):
            graph.edge("in use", node)


def _walk(edges: dict[str, set[str]], start: str) -> set[str]:
    seen, queue = set(), deque([start])
    while queue:
        for node in edges.get(queue.popleft(), ()):
            if node not in seen:
                seen.add(node)
                queue.append(node)
    return seen


def proven(account: Topology, ami: AccountAmi) -> bool:
    return (
        ami.build_id != ""
        and account.parameters.get(f"/golden-ami/{ami.image}/{ami.build_id}") == ami.id
    )


def must_stay(account: Topology, policy: RetentionPolicy, now: datetime) -> set[str]:
    """Images that no plan may move one step."""
    living = alive(account)
    ranked = sorted(
        (
            ami
            for ami in account.amis
            if ami.image == IMAGE and proven(account, ami) and ami.state == "available"
        ),
        key=lambda ami: (ami.created, ami.id),
    )
    newest = {ami.id for ami in ranked[-policy.keep_last :]}
    return {
        ami.id
        for ami in account.amis
        if ami.id in living
        or ami.id in newest
        or ami.image != IMAGE
        or not proven(account, ami)
        or ami.protected
        or ami.state not in ("available", "disabled")
        or (now - ami.created).total_seconds() <= policy.max_age_days * 86400
        or (
            ami.state == "available"
            and ami.shared_with
            and not (policy.release_shared and "all" not in ami.shared_with)
        )
    }


# --- an account that plans are carried out on ---


class Account:
    """A region's topology under a plan's actions. An action that EC2 or the waits forbid is an
    AssertionError."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    def ami(self, identifier: str) -> AccountAmi:
        return next(ami for ami in self.topology.amis if ami.id == identifier)

    def carry_out(self, planned: RegionRetirePlan, policy: RetentionPolicy, now: datetime) -> None:
        for action in planned.actions:
            self._do(action, policy, now)

    def _do(self, action: Action, policy: RetentionPolicy, now: datetime) -> None:
        ami = next((ami for ami in self.topology.amis if ami.id == action.target), None)
        match action.step:
            case RetireStep.RECALL:
                self._change(action.target, announced=None, disabled=None)
            case RetireStep.DEPRECATE:
                assert ami and ami.state == "available"
                self._change(ami.id, announced=now, deprecated=now)
            case RetireStep.DISABLE:
                assert ami and ami.announced and ami.deprecated and ami.deprecated <= now
                assert now - ami.announced >= timedelta(days=policy.disable_after_days)
                self._change(ami.id, state=AmiState.DISABLED, disabled=now, shared_with=())
            case RetireStep.NOTE_DISABLED:
                self._change(action.target, disabled=now)
            case RetireStep.DEREGISTER:
                assert ami and ami.state == "disabled" and ami.disabled and not ami.protected
                assert now - ami.disabled >= timedelta(days=policy.deregister_after_days)
                self._drop("amis", ami)
            case _:
                self._remove(action)

    def _remove(self, action: Action) -> None:
        found = self.topology
        match action.step:
            case RetireStep.DELETE_SNAPSHOT:
                held = [ami for ami in found.amis if action.target in ami.snapshots]
                assert not held, f"InvalidSnapshot.InUse: {action.target}"
                self._drop(
                    "snapshots", next(each for each in found.snapshots if each.id == action.target)
                )
            case RetireStep.DELETE_VERSION:
                version = next(
                    each
                    for each in found.templates
                    if f"{each.template_id}:{each.number}" == action.target
                )
                assert not version.default, "the default version cannot be deleted"
                self._drop("templates", version)
            case RetireStep.DELETE_RECORD:
                value = found.parameters[action.target]
                assert value not in {ami.id for ami in found.amis}, "its AMI is still there"
                rest = {
                    name: each for name, each in found.parameters.items() if name != action.target
                }
                self.topology = replace(found, parameters=rest)

    def _change(self, identifier: str, **changes: Any) -> None:
        changed = tuple(
            replace(ami, **changes) if ami.id == identifier else ami for ami in self.topology.amis
        )
        self.topology = replace(self.topology, amis=changed)

    def _drop(self, field: str, thing: object) -> None:
        rest: dict[str, Any] = {
            field: tuple(each for each in getattr(self.topology, field) if each != thing)
        }
        self.topology = replace(self.topology, **rest)
