"""Random accounts for the tests of retirement, and an oracle that was written without looking at the implementation.

The oracle knows nothing of references by kind. It draws one graph of everything that holds something else, and asks
what can be reached from what is alive. `Account` carries out plans on a topology as EC2 would, and refuses what EC2
refuses.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from goldenami.aws.topology import (
    Ami,
    AmiState,
    Group,
    Instance,
    Snapshot,
    SnapshotState,
    TemplateUse,
    TemplateVersion,
    Topology,
    Volume,
)
from goldenami.retention import Action, Policy, RegionPlan, Step
from hypothesis import strategies as st

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
IMAGE, OTHER = "ml-gpu", "ml-gpu.old"
BUILDS = tuple(f"{number:012x}" for number in range(0xb001, 0xb008))


def ami_id(number: int) -> str:
    return f"ami-{number:017x}"


def snapshot_id(number: int) -> str:
    return f"snap-{number:017x}"


# --- random accounts ------------------------------------------------------------------------------------------------

_NUMBERS = st.integers(0, 6)
_AGES = st.integers(0, 400).map(lambda days: NOW - timedelta(days=days))
_TAG_TIMES = st.none() | _AGES
_OWNERS = st.sampled_from([IMAGE, IMAGE, IMAGE, OTHER, ""])


@st.composite
def _amis(draw: st.DrawFn) -> tuple[Ami, ...]:
    found = []
    for number in range(draw(_NUMBERS)):
        image = draw(_OWNERS)
        announced = draw(_TAG_TIMES)
        found.append(Ami(
            id=ami_id(number), name=f"image {number}", created=draw(_AGES), image=image,
            build_id=BUILDS[draw(st.integers(0, 1)) + number // 2] if image else "",
            state=draw(st.sampled_from([AmiState.AVAILABLE] * 4 + [AmiState.DISABLED, AmiState.PENDING,
                                                                   AmiState.FAILED])),
            snapshots=tuple({snapshot_id(draw(_NUMBERS)) for _ in range(draw(st.integers(0, 2)))}),
            announced=announced, deprecated=draw(st.just(announced) | _TAG_TIMES), disabled=draw(_TAG_TIMES),
            protected=draw(st.integers(0, 9)) == 0,
            shared_with=draw(st.sampled_from([(), (), (), ("111122223333",), ("all",)]))))
    return tuple(found)


@st.composite
def _snapshots(draw: st.DrawFn) -> tuple[Snapshot, ...]:
    found = []
    for number in range(draw(_NUMBERS)):
        image = draw(_OWNERS)
        found.append(Snapshot(
            id=snapshot_id(number), started=draw(_AGES), image=image,
            build_id=draw(st.sampled_from(BUILDS)) if image else "",
            state=draw(st.sampled_from([SnapshotState.COMPLETED] * 3 + [SnapshotState.PENDING])),
            expires=draw(st.none() | st.integers(-3, 3).map(lambda days: NOW + timedelta(days=days))),
            parent=draw(st.just("") | st.builds(snapshot_id, _NUMBERS))))
    return tuple(found)


@st.composite
def _parameters(draw: st.DrawFn, amis: tuple[Ami, ...]) -> dict[str, str]:
    found = {f"/golden-ami/{ami.image}/{ami.build_id}": ami.id for ami in amis if ami.image and draw(st.integers(0, 4))}
    ids = st.builds(ami_id, _NUMBERS)
    for name in draw(st.lists(st.sampled_from([
            f"/golden-ami/{IMAGE}/latest", f"/golden-ami/{IMAGE}/candidate", f"/golden-ami/{IMAGE}/{BUILDS[6]}",
            f"/golden-ami/{OTHER}/latest", "flat", "/team/base:3", "/team/base"]), max_size=2)):
        found[name] = draw(ids | ids.map('{{"image": "{}", "user": "admin"}}'.format))
    return found


_REFS = st.builds(ami_id, _NUMBERS) | st.sampled_from(
    ["", "resolve:ssm:/team/base", "resolve:ssm:/team/base:3", "resolve:ssm:flat", "resolve:ssm:/nowhere"])
_USES = st.builds(TemplateUse, st.sampled_from(["lt-1", "lt-2", f"golden-{IMAGE}", "theirs"]),
                  st.sampled_from(["$Latest", "$Default", "1", "2", "3", ""]))


@st.composite
def _templates(draw: st.DrawFn) -> tuple[TemplateVersion, ...]:
    found = []
    for template_id, name, image in (("lt-1", f"golden-{IMAGE}", draw(st.sampled_from([IMAGE, IMAGE, ""]))),
                                     ("lt-2", "theirs", draw(st.sampled_from(["", IMAGE])))):
        numbers = sorted(draw(st.sets(st.integers(1, 4), max_size=3)))
        default = draw(st.sampled_from(numbers)) if numbers else 0
        found += [TemplateVersion(template_id, name, number, draw(_REFS), default=number == default,
                                  latest=number == numbers[-1], image=image) for number in numbers]
    return tuple(found)


@st.composite
def accounts(draw: st.DrawFn) -> Topology:
    """A region of an account in any state, likely or not."""
    amis = draw(_amis())
    configurations = draw(st.dictionaries(st.sampled_from(["lc-a", "lc-b"]), st.builds(ami_id, _NUMBERS), max_size=1))
    groups = st.builds(
        Group, name=st.sampled_from(["asg-a", "asg-b"]), templates=st.lists(_USES, max_size=2).map(tuple),
        configuration=st.sampled_from(["", "", "lc-a"]), image_refs=st.lists(_REFS, max_size=1).map(tuple))
    return Topology(
        region="eu-west-1", amis=amis, snapshots=draw(_snapshots()), parameters=draw(_parameters(amis)),
        templates=draw(_templates()), configurations=configurations, groups=tuple(draw(st.lists(groups, max_size=2))),
        instances=tuple(Instance(f"i-{number}", ami_id(draw(_NUMBERS)), "stopped")
                        for number in range(draw(st.integers(0, 1)))),
        volumes=tuple(Volume(f"vol-{number}", snapshot_id(draw(_NUMBERS)))
                      for number in range(draw(st.integers(0, 1)))),
        pointers=draw(st.dictionaries(st.sampled_from(["latest", "rollback"]), st.builds(ami_id, _NUMBERS),
                                      max_size=1)))


policies = st.builds(Policy, keep_last=st.integers(1, 3), max_age_days=st.sampled_from([0, 30, 180]),
                     disable_after_days=st.sampled_from([0, 7]), deregister_after_days=st.sampled_from([0, 10]),
                     release_shared=st.booleans())


# --- the oracle -----------------------------------------------------------------------------------------------------

def alive(account: Topology) -> set[str]:
    """Everything that can be reached from what is in use, whatever it is, by one walk over one graph."""
    edges: dict[str, set[str]] = {}

    def edge(holder: str, held: str) -> None:
        edges.setdefault(holder, set()).add(held)

    def image(holder: str, reference: str) -> None:
        edge(holder, f"parameter {reference[12:]}" if reference.startswith("resolve:ssm:") else reference)

    records = {f"/golden-ami/{ami.image}/{ami.build_id} = {ami.id}" for ami in account.amis if ami.build_id}
    for name, value in account.parameters.items():
        for word in re.split(r"[^-0-9a-z]+", value):
            edge(f"parameter {name}", word)
        if f"{name} = {value}" not in records:
            edge("in use", f"parameter {name}")
    for version in account.templates:
        node = f"template {version.template_id} {version.number}"
        image(node, version.image_ref)
        for alias, wanted in (("$Latest", version.latest), ("$Default", version.default), ("", version.default),
                              (str(version.number), True)):
            if wanted:
                edge(f"use {version.template_id} {alias}", node)
                edge(f"use {version.template} {alias}", node)
        if not (version.image and version.template == "golden-" + version.image) or version.default or version.latest:
            edge("in use", node)
    for name, value in account.configurations.items():
        edge("in use", value)
        edge(f"configuration {name}", value)
    for group in account.groups:
        for use in group.templates:
            edge("in use", f"use {use.template} {use.version}")
        for reference in group.image_refs:
            image("in use", reference)
        edge("in use", f"configuration {group.configuration}")
    for held in account.pointers.values():
        edge("in use", held)
    for instance in account.instances:
        edge("in use", instance.image_id)
    for volume in account.volumes:
        edge("in use", volume.snapshot_id)
    for snapshot in account.snapshots:
        if snapshot.state == "pending":
            edge("in use", snapshot.parent)
    for ami in account.amis:
        for backing in ami.snapshots:
            edge(backing, ami.id)
    return _walk(edges, "in use")


def _walk(edges: dict[str, set[str]], start: str) -> set[str]:
    seen, queue = set(), deque([start])
    while queue:
        for node in edges.get(queue.popleft(), ()):
            if node not in seen:
                seen.add(node)
                queue.append(node)
    return seen


def proven(account: Topology, ami: Ami) -> bool:
    return ami.build_id != "" and account.parameters.get(f"/golden-ami/{ami.image}/{ami.build_id}") == ami.id


def must_stay(account: Topology, policy: Policy, now: datetime) -> set[str]:
    """Images that no plan may move one step."""
    living = alive(account)
    ranked = sorted((ami for ami in account.amis if ami.image == IMAGE and proven(account, ami)
                     and ami.state == "available"), key=lambda ami: (ami.created, ami.id))
    newest = {ami.id for ami in ranked[-policy.keep_last:]}
    return {ami.id for ami in account.amis
            if ami.id in living or ami.id in newest or ami.image != IMAGE or not proven(account, ami)
            or ami.protected or ami.state not in ("available", "disabled")
            or (now - ami.created).total_seconds() <= policy.max_age_days * 86400
            or (ami.state == "available" and ami.shared_with
                and not (policy.release_shared and "all" not in ami.shared_with))}


# --- an account that plans are carried out on -----------------------------------------------------------------------

class Account:
    """A region's topology under a plan's actions. An action that EC2 or the waits forbid is an AssertionError."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    def ami(self, identifier: str) -> Ami:
        return next(ami for ami in self.topology.amis if ami.id == identifier)

    def carry_out(self, planned: RegionPlan, policy: Policy, now: datetime) -> None:
        for action in planned.actions:
            self._do(action, policy, now)

    def _do(self, action: Action, policy: Policy, now: datetime) -> None:
        ami = next((ami for ami in self.topology.amis if ami.id == action.target), None)
        match action.step:
            case Step.RECALL:
                self._change(action.target, announced=None, disabled=None)
            case Step.DEPRECATE:
                assert ami and ami.state == "available"
                self._change(ami.id, announced=now, deprecated=now)
            case Step.DISABLE:
                assert ami and ami.announced and ami.deprecated and ami.deprecated <= now
                assert now - ami.announced >= timedelta(days=policy.disable_after_days)
                self._change(ami.id, state=AmiState.DISABLED, disabled=now, shared_with=())
            case Step.NOTE_DISABLED:
                self._change(action.target, disabled=now)
            case Step.DEREGISTER:
                assert ami and ami.state == "disabled" and ami.disabled and not ami.protected
                assert now - ami.disabled >= timedelta(days=policy.deregister_after_days)
                self._drop("amis", ami)
            case _:
                self._remove(action)

    def _remove(self, action: Action) -> None:
        found = self.topology
        match action.step:
            case Step.DELETE_SNAPSHOT:
                held = [ami for ami in found.amis if action.target in ami.snapshots]
                assert not held, f"InvalidSnapshot.InUse: {action.target}"
                self._drop("snapshots", next(each for each in found.snapshots if each.id == action.target))
            case Step.DELETE_VERSION:
                version = next(each for each in found.templates
                               if f"{each.template_id}:{each.number}" == action.target)
                assert not version.default, "the default version cannot be deleted"
                self._drop("templates", version)
            case Step.DELETE_RECORD:
                value = found.parameters[action.target]
                assert value not in {ami.id for ami in found.amis}, "its AMI is still there"
                rest = {name: each for name, each in found.parameters.items() if name != action.target}
                self.topology = replace(found, parameters=rest)

    def _change(self, identifier: str, **changes: object) -> None:
        changed = tuple(replace(ami, **changes) if ami.id == identifier else ami  # type: ignore[arg-type]
                        for ami in self.topology.amis)
        self.topology = replace(self.topology, amis=changed)

    def _drop(self, field: str, thing: object) -> None:
        rest = tuple(each for each in getattr(self.topology, field) if each != thing)
        self.topology = replace(self.topology, **{field: rest})
