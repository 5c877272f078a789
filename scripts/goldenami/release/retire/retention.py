"""Decides which images of an account go and when, and why the others stay: a plan from a topology
and a moment, without a call.

An image goes when it is beyond the newest `keep_last` of its name, older than `max_age_days`, and
nothing refers to it. It goes in steps, one a run, with waits in between, so that whoever still
needs it is warned before it is lost:

available -> deprecated -> disabled -> deregistered, its snapshots deleted, its record removed last

All but the last step can be taken back. The state is kept in the account itself: deprecation, the
disabled state, and tags. An image is the pipeline's only if its tags say so *and* the SSM record of
its build names it; other images are not touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from goldenami.aws.channels.pointers import build_name
from goldenami.aws.images import AmiState
from goldenami.aws.inventory import references
from goldenami.aws.inventory.references import ReferenceKind, References
from goldenami.aws.inventory.topology import (
    AccountAmi,
    AccountSnapshot,
    SnapshotState,
    TemplateVersion,
    Topology,
    is_ours,
    records_of,
)
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Utc
from goldenami.model.operation.publish_section import Publish

UPLOAD_GRACE = timedelta(days=2)
"""How long a finished snapshot without a date of expiry may wait for its AMI: longer than any
publish takes."""
ROUNDING = timedelta(minutes=10)
"""How much later than its announcement a deprecation may be: EC2 takes only a time in the future,
and rounds it."""

Days = Annotated[int, Field(ge=0, le=3650)]


class RetentionPolicy(Record):
    """How long images are kept. The two waits are the days between two steps of one image."""

    keep_last: Annotated[int, Field(ge=1)] = 3
    max_age_days: Days = 180
    disable_after_days: Days = 14
    deregister_after_days: Days = 14
    release_shared: bool = False
    idle_days: Days = 30

    @classmethod
    def of(cls, publish: Publish, **instead: int | bool | None) -> RetentionPolicy:
        """The definition's policy, with the command line's values `instead` unless they are
        None."""
        settings = {"keep_last": publish.keep_last, "max_age_days": publish.max_age_days}
        given = {name: value for name, value in instead.items() if value is not None}
        return cls.model_validate(settings | given)

    @property
    def max_age(self) -> timedelta:
        return timedelta(days=self.max_age_days)


class RetireStep(StrEnum):
    """The steps that a plan may take, in this order."""

    RECALL = "recall"
    DEPRECATE = "deprecate"
    DISABLE = "disable"
    NOTE_DISABLED = "note that it is disabled"
    DELETE_VERSION = "delete template version"
    DEREGISTER = "deregister"
    DELETE_SNAPSHOT = "delete snapshot"
    DELETE_RECORD = "delete record"


class Action(Record):
    """A step on one resource. `target` is its id or name; a template version's is `lt-...:7`.

    Actions of one `build_id` are done in order, and if one fails, the others of its build are not
    done.
    """

    step: Annotated[RetireStep, Field(strict=False)]
    target: str
    build_id: str
    why: str


class Survivor(Record):
    """An image or snapshot that stays, and all reasons for it."""

    target: str
    build_id: str
    name: str
    reasons: Annotated[list[str], Field(min_length=1)]


class RegionRetirePlan(Record):
    """The plan for one region. `problems` are for a person to look at; `published_to` are the
    image's regions by its ledger."""

    region: str
    published_to: tuple[str, ...] = ()
    actions: list[Action]
    survivors: list[Survivor]
    problems: list[str]


class RetirePlan(Record):
    """The plan of `retire` for one image. `unreachable` are regions that could not be read, with
    the cause; `dropped` are regions that are not in the definition any more."""

    schema_version: Literal[1] = 1
    image: str
    planned_at: Utc
    policy: RetentionPolicy
    regions: list[RegionRetirePlan]
    unreachable: dict[str, str]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Region:
    """A region's topology, and what is derived from it for one image: the `uses` of AMIs, the
    `newest` AMIs to keep, the `records` of builds, and the `idle` versions of templates."""

    topology: Topology
    image: str
    policy: RetentionPolicy
    now: datetime
    uses: References
    newest: frozenset[str]
    records: Mapping[str, str]
    idle: tuple[TemplateVersion, ...]

    @classmethod
    def of(cls, topology: Topology, image: str, policy: RetentionPolicy, now: datetime) -> _Region:
        ours = []
        for ami in topology.amis:
            is_available = ami.image == image and ami.state is AmiState.AVAILABLE
            if is_available and is_ours(ami, topology.parameters):
                ours.append(ami)
        ours.sort(key=lambda ami: (ami.created, ami.id), reverse=True)
        return cls(
            topology=topology,
            image=image,
            policy=policy,
            now=now,
            uses=references.of_amis(topology),
            newest=frozenset(ami.id for ami in ours[: policy.keep_last]),
            records=records_of(topology.parameters, image),
            idle=references.idle(topology),
        )

    @cached_property
    def idle_of(self) -> Mapping[str, Sequence[TemplateVersion]]:
        """The versions of our templates that nothing selects, by the AMI that they launch."""
        return _grouped(
            (references.resolve(version.image_ref, self.topology.parameters), version)
            for version in self.idle
        )

    @cached_property
    def idle_naming(self) -> Mapping[str, Sequence[TemplateVersion]]:
        """The same versions, by what they literally name."""
        return _grouped((version.image_ref, version) for version in self.idle)


def _grouped(
    pairs: Iterable[tuple[str, TemplateVersion]],
) -> Mapping[str, Sequence[TemplateVersion]]:
    groups = defaultdict[str, list[TemplateVersion]](list)
    for ami_id, version in pairs:
        groups[ami_id].append(version)
    return groups


def plan(
    topology: Topology, image: str, policy: RetentionPolicy, now: datetime
) -> RegionRetirePlan:
    """Plan what is due at `now` for `image` in the region, and why everything else of it stays."""
    region = _Region.of(topology, image, policy, now)
    actions: list[Action] = []
    survivors: list[Survivor] = []
    for ami in sorted(topology.amis, key=lambda ami: (ami.created, ami.id), reverse=True):
        if ami.image != image:
            continue
        step, reasons = decide(region, ami)
        if step is None or step is RetireStep.RECALL:
            survivors.append(
                Survivor(target=ami.id, build_id=ami.build_id, name=ami.name, reasons=reasons)
            )
        if step is not None:
            actions += _actions(region, ami, step, "; ".join(reasons))
    going = {action.target for action in actions if action.step is RetireStep.DEREGISTER}
    _sort_snapshots(region, going, actions, survivors)
    actions += _dead_records(region, going, actions)
    return RegionRetirePlan(
        region=topology.region,
        published_to=topology.published_to,
        actions=actions,
        survivors=survivors,
        problems=_problems(region),
    )


def decide(region: _Region, ami: AccountAmi) -> tuple[RetireStep | None, list[str]]:
    """The step that is due for an AMI of the image, and why; or None, and why it stays."""
    if reasons := list(_reasons_to_stay(region, ami)):
        # An image that is announced and has to stay after all gets its former date back.
        recall: RetireStep | None = None
        is_announced = ami.announced is not None and ami.state is AmiState.AVAILABLE
        if is_announced and _is_ours(region, ami):
            recall = RetireStep.RECALL
        return recall, reasons
    why = (
        f"beyond the newest {region.policy.keep_last}, {_days(region.now - ami.created)} old, "
        "nothing refers to it"
    )
    if ami.state is AmiState.AVAILABLE and not _is_announced(ami):
        return RetireStep.DEPRECATE, [why]
    if ami.state is AmiState.DISABLED and ami.disabled is None:
        return RetireStep.NOTE_DISABLED, [f"{why}; disabled, and no tag says since when"]
    policy = region.policy
    if ami.state is AmiState.AVAILABLE:
        assert ami.announced is not None
        due = ami.announced + timedelta(days=policy.disable_after_days)
        step, former = RetireStep.DISABLE, f"deprecated {ami.announced:%Y-%m-%d}"
    else:
        assert ami.disabled is not None
        due = ami.disabled + timedelta(days=policy.deregister_after_days)
        step, former = RetireStep.DEREGISTER, f"disabled {ami.disabled:%Y-%m-%d}"
    if region.now < due:
        return None, [f"{why}; {former}, to {step.value} on {due:%Y-%m-%d}"]
    return step, [why]


def _is_announced(ami: AccountAmi) -> bool:
    """Whether the AMI has the tag of its announcement, and a deprecation date of that time."""
    return (
        ami.announced is not None
        and ami.deprecated is not None
        and ami.deprecated <= ami.announced + ROUNDING
    )


def _is_ours(region: _Region, ami: AccountAmi) -> bool:
    return is_ours(ami, region.topology.parameters)


def _reasons_to_stay(region: _Region, ami: AccountAmi) -> Iterator[str]:
    """Yield every reason for which an AMI stays."""
    if not _is_ours(region, ami):
        if recorded := region.records.get(ami.build_id):
            yield f"not proven ours: its record names {recorded}"
        else:
            yield "not proven ours: its record does not exist"
    if ami.state not in (AmiState.AVAILABLE, AmiState.DISABLED):
        yield f"its state is {ami.state.value}"
    if ami.protected:
        yield "deregistration protection is on"
    for reference in region.uses.get(ami.id, ()):
        yield f"used by {reference}"
    if ami.id in region.newest:
        yield f"among the newest {region.policy.keep_last}"
    if region.now - ami.created <= region.policy.max_age:
        yield f"{_days(region.now - ami.created)} old, at most {region.policy.max_age_days}"
    yield from _shares(region, ami)


def _shares(region: _Region, ami: AccountAmi) -> Iterator[str]:
    """Yield the accounts that an AMI is shared with as a reason to stay, unless the user releases
    shared ones and nobody has launched it for `idle_days`."""
    # What other accounts do with an image cannot be seen.
    if ami.state is not AmiState.AVAILABLE or not ami.shared_with:
        return
    if not region.policy.release_shared or "all" in ami.shared_with:
        yield f"shared with {', '.join(ami.shared_with)}"
    elif ami.last_launched and region.now - ami.last_launched <= timedelta(
        days=region.policy.idle_days
    ):
        yield (
            f"shared with {', '.join(ami.shared_with)} and launched on {ami.last_launched:%Y-%m-%d}"
        )


def _actions(region: _Region, ami: AccountAmi, step: RetireStep, why: str) -> Iterator[Action]:
    if step is RetireStep.DEREGISTER:
        for version in region.idle_of.get(ami.id, ()):
            yield Action(
                step=RetireStep.DELETE_VERSION,
                target=f"{version.template_id}:{version.number}",
                build_id=ami.build_id,
                why=f"{ami.id} goes",
            )
    yield Action(step=step, target=ami.id, build_id=ami.build_id, why=why)


# --- snapshots ------------------------------------------------------------------------------------


def _sort_snapshots(
    region: _Region, going: set[str], actions: list[Action], survivors: list[Survivor]
) -> None:
    """Add the image's snapshots to `actions` or `survivors`. `going` are the AMIs that go."""
    uses = references.of_snapshots(region.topology)
    for snapshot in region.topology.snapshots:
        if snapshot.image != region.image:
            continue
        used_by, has_ami = list[str](), False
        for use in uses.get(snapshot.id, ()):
            if use.kind is not ReferenceKind.AMI:
                used_by.append(f"used by {use}")
            elif use.holder not in going:
                has_ami = True
        if has_ami:
            continue  # the image that stays is listed with its reasons
        reasons = used_by or list(_reasons_to_keep(region, snapshot, going))
        if reasons:
            survivors.append(
                Survivor(
                    target=snapshot.id, build_id=snapshot.build_id, name="snapshot", reasons=reasons
                )
            )
            continue
        why = "an upload that was never finished"
        if snapshot.state is SnapshotState.COMPLETED:
            why = "no AMI is made of it"
        actions.append(
            Action(
                step=RetireStep.DELETE_SNAPSHOT,
                target=snapshot.id,
                build_id=snapshot.build_id,
                why=why,
            )
        )


def _reasons_to_keep(region: _Region, snapshot: AccountSnapshot, going: set[str]) -> Iterator[str]:
    """Yield the reasons for which a snapshot stays that nothing uses."""
    recorded = region.records.get(snapshot.build_id)
    if recorded in going:
        return  # it goes with its AMI
    if snapshot.state is SnapshotState.PENDING and snapshot.expires is None:
        yield "unfinished, and no tag says until when"
    elif snapshot.expires is not None:
        if region.now <= snapshot.expires:
            yield f"a run may work on it until {snapshot.expires:%Y-%m-%d %H:%M}"
    elif recorded is None:
        yield "not proven ours: no record of its build, and no tag says until when"
    elif region.now - snapshot.started <= UPLOAD_GRACE:
        yield f"{_days(region.now - snapshot.started)} old: a run may be about to register it"


# --- records --------------------------------------------------------------------------------------


def _dead_records(region: _Region, going: set[str], planned: Sequence[Action]) -> Iterator[Action]:
    """Yield the deletion of records, and of versions of our template, whose AMI is gone when the
    `planned` actions are done."""
    present = {ami.id for ami in region.topology.amis} - going
    deleted = {action.target for action in planned if action.step is RetireStep.DELETE_SNAPSHOT}
    staying = set[str]()
    for snapshot in region.topology.snapshots:
        if snapshot.image == region.image and snapshot.id not in deleted:
            staying.add(snapshot.build_id)
    for build_id, ami_id in sorted(region.records.items()):
        if ami_id in present or region.uses.get(ami_id):
            continue
        if ami_id not in going:
            for version in region.idle_naming.get(ami_id, ()):
                yield Action(
                    step=RetireStep.DELETE_VERSION,
                    target=f"{version.template_id}:{version.number}",
                    build_id=build_id,
                    why=f"{ami_id} is gone",
                )
        if build_id in staying:
            continue  # the record goes last: it proves that the snapshots are ours
        yield Action(
            step=RetireStep.DELETE_RECORD,
            target=build_name(region.image, build_id),
            build_id=build_id,
            why=f"{ami_id} and its snapshots are gone",
        )


def _problems(region: _Region) -> list[str]:
    """AMIs that do not exist any more although something uses them."""
    present = {ami.id for ami in region.topology.amis}
    problems = []
    for build_id, ami_id in sorted(region.records.items()):
        if ami_id in present or not region.uses.get(ami_id):
            continue
        users = ", ".join(map(str, region.uses[ami_id]))
        problems.append(
            f"{ami_id} of build {build_id} does not exist any more and is used by {users}"
        )
    return problems


def _days(age: timedelta) -> str:
    days = max(age.days, 0)  # this machine's clock may be behind AWS's
    if days == 1:
        return "1 day"
    return f"{days} days"
