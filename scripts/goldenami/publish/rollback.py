"""The `rollback` stage: `latest` and the launch template's default go back, in all regions at once.

It needs no disk and no record of this machine: the account knows which build was before. A region that does not
answer does not keep the others; the same command, perhaps with `--region`, takes it back later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from goldenami.aws import images, tags
from goldenami.aws.channels import channels, lease, pointers, refresh
from goldenami.aws.channels.ledger import Channel, GpuProof, Ledger
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import Image, State
from goldenami.aws.regions import each, failure
from goldenami.aws.session import Account, check_regions
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, GoldenError, NotVerified
from goldenami.core.progress import Progress
from goldenami.model.definition import Definition
from goldenami.publish import channel_moves
from goldenami.publish.publish_records import MovePlan, MoveRecord, RegionMove

NOTHING = "nothing is changed"


@dataclass(frozen=True)
class RollbackState:
    """A region before the rollback. `is_abandoned`: whoever held its lease last did not let go of it."""

    ledger: Ledger
    is_abandoned: bool
    pointers: dict[Channel, str]
    template: Version | None

    @property
    def is_half_back(self) -> bool:
        """Whether a rollback wrote the ledger, and failed or was killed before it had moved the pointers."""
        latest = self.ledger.latest
        if latest is None or not self.ledger.went_back:
            return False
        now = (self.pointers.get(Channel.LATEST), self.template.ami if self.template else None)
        return self.is_abandoned or now != (latest.ami, latest.ami)


@dataclass(frozen=True)
class Prepared:
    """The plan for the regions that answered, and the errors of those that did not."""

    plan: MovePlan
    failed: dict[str, GoldenError]


@dataclass(frozen=True)
class RollbackCriteria:
    """What a build that `latest` never named is judged by: what this machine knows of it on a GPU, what the declared
    hardware says where no ledger knows the build, and what a person allows.
    """

    attested: Callable[[str], GpuProof]
    declared: GpuProof
    options: channel_moves.MoveOptions


def prepare(
    account: Account, wanted: Definition, *, to: str | None, regions: list[str], gate: RollbackCriteria,
) -> Prepared:
    """What would go back: to the build `to`, else to the one before the present one. No `regions`: all of them.

    BadInput where a region that answers cannot launch that build; a region that does not answer is only noted.
    NotVerified for a build that `latest` never named, where `promote` would refuse it.
    """
    names = regions or channels.published(wanted).regions
    check_regions(names)
    hasty = account.hasty()
    found = each(names, lambda region: _look(hasty, region, wanted.image))
    if not found.done:
        raise failure(found.failed, NOTHING, "then run again", {})
    target = to or _target(wanted.image, found.done)
    build = each(found.done, lambda region: images.find(account.ec2(region), f"{wanted.image}-{target}"))
    launchable = _launchable(wanted.image, target, build.all(NOTHING, "then run again"))
    gpu = _proof(wanted, target, [was.ledger for was in found.done.values()], gate)
    moves_of = {region: _move(region, was, target, launchable[region], gpu) for region, was in found.done.items()}
    baked = max(datetime.fromisoformat(move.baked_at) for move in moves_of.values())
    withdraw = {was.ledger.latest.build_id for was in found.done.values()
                if was.ledger.latest and was.ledger.latest.baked > baked}
    plan = MovePlan(
        image=wanted.image, build_id=target, account=account.number(next(iter(found.done))),
        withdraw=tuple(sorted(withdraw)), regions=tuple(
            move.model_copy(update={"candidate": _of(found.done[region], Channel.CANDIDATE) in withdraw})
            for region, move in moves_of.items()))
    return Prepared(plan, found.failed)


def _look(account: Account, region: str, image: str) -> RollbackState:
    names = {channel: pointers.channel_name(image, channel) for channel in Channel}
    values = pointers.read(account.ssm(region), names.values())
    seen = lease.look(account.dynamodb(region), image)
    return RollbackState(ledger=seen.ledger, is_abandoned=seen.holder is not None,
                         pointers={channel: values[name] for channel, name in names.items() if name in values},
                         template=pointers.default_version(account.ec2(region), pointers.template_name(image)))


def _of(was: RollbackState, channel: Channel) -> str | None:
    mark = was.ledger.of(channel)
    return mark.build_id if mark else None


def _target(image: str, found: dict[str, RollbackState]) -> str:
    """The build to go back to, the same in all regions.

    Where regions differ, or a rollback was killed half-way, it is the older one that some have already; else it is
    the one before.
    """
    fronts = {mark.build_id: mark for was in found.values() if (mark := was.ledger.latest)}
    withdrawn = {build for was in found.values() for build in was.ledger.withdrawn}
    standing = [mark for mark in fronts.values() if mark.build_id not in withdrawn]
    if standing and (len(fronts) > 1 or any(was.is_half_back for was in found.values())):
        return min(standing, key=lambda mark: mark.baked).build_id
    before = {region: mark.build_id for region, was in found.items() if (mark := was.ledger.previous())}
    if len(set(before.values())) == 1 and before.keys() == found.keys():
        return next(iter(before.values()))
    told = ", ".join(f"{region}: {before.get(region, 'none')}" for region in found)
    raise BadInput(f"no build before the present one of {image} is common to all regions ({told})",
                   hint="name it with --to; `golden status` lists what is there")


def _launchable(image: str, target: str, found: dict[str, Image | None]) -> dict[str, Image]:
    """The AMIs to go back to, or BadInput naming each region where there is none that can be launched."""
    good = {region: ami for region, ami in found.items()
            if ami and ami.state == State.AVAILABLE and ami.tags.get(tags.BUILD_ID) == target}
    bad = [f"{region}: " + (f"{ami.ami} is {ami.state}" if ami else "gone")
           for region, ami in found.items() if region not in good]
    if bad:
        raise BadInput(f"build {target} of {image} cannot be launched everywhere: {', '.join(bad)}",
                       hint=f"`golden publish {image} --build {target}` makes it again, `aws ec2 enable-image` enables "
                            "a disabled one; --to names another build, --region the regions that have it")
    return good


def _proof(wanted: Definition, target: str, ledgers: list[Ledger], gate: RollbackCriteria) -> GpuProof:
    """What is known of the build on a GPU. One that `latest` never named has to pass all that a promotion asks for."""
    former = [mark for ledger in ledgers for mark in (ledger.latest, *ledger.history)
              if mark and mark.build_id == target]
    if former:
        return former[0].gpu
    known = [ledger.candidate for ledger in ledgers if ledger.candidate and ledger.candidate.build_id == target]
    noted = [mark.gpu for mark in known] or [gate.declared]
    gpu = channel_moves.gpu(noted, gate.attested(target), accept=gate.options.accept_untested_gpu)
    channel_moves.check_gpu(wanted.image, target, gpu)
    hours = channels.published(wanted).soak_hours
    if hours and not gate.options.now:
        if not known:
            raise NotVerified(f"build {target} was neither `latest` nor is it the candidate: whether it stood "
                              f"{hours} h is not known", hint="--now goes on without")
        channel_moves.check_soaked(target, [mark.since for mark in known], hours)
    return gpu


def _move(region: str, was: RollbackState, target: str, image: Image, gpu: GpuProof) -> RegionMove:
    known, latest = was.ledger.known(target), was.ledger.latest
    return RegionMove(
        region=region, ami=image.ami, baked_at=known.baked_at if known else image.raw["CreationDate"],
        gpu=gpu, ledger=was.ledger.digest, before_build=latest.build_id if latest else None,
        before=was.pointers.get(Channel.LATEST), candidate_before=was.pointers.get(Channel.CANDIDATE),
        template_before=was.template.number if was.template else None)


def execute(
    account: Account, wanted: Definition, prepared: Prepared, folder: Path, progress: Progress,
) -> MoveRecord:
    """Take every region back under its own lease, so that none waits for another.

    What was and what is goes to rollback-<time>.json in `folder`.

    Regions that failed, now or before, are raised as one error after the others are done.
    """
    plan = prepared.plan
    moving = {move.region: move for move in plan.regions}

    def back(region: str) -> Version:
        with lease.held(account, plan.image, [region]) as leases:
            channel_moves.check_unmoved(account, plan, moving[region], leases[region])
            version = channel_moves.apply(account, wanted, plan, moving[region], leases[region], as_it_was=True)
        progress.say(f"{region}: latest is {moving[region].ami}, the template's default version {version.number}")
        if channels.published(wanted).instance_refresh:
            _refresh(account, wanted, region, version, progress)
        return version

    with progress.step("back"):
        outcomes = each(moving, back)
    failed = {**prepared.failed, **outcomes.failed}
    record = MoveRecord(plan=plan, at=clock.stamp(), by=tags.owner(),
                        template_versions={region: version.number for region, version in outcomes.done.items()},
                        failed={region: error.message for region, error in failed.items()})
    records.write(folder / f"rollback-{record.at}.json", record)
    if failed:
        names = " ".join(f"--region {region}" for region in failed)
        raise failure(failed, f"{len(outcomes.done)} of {len(moving) + len(prepared.failed)} regions went back",
                      f"`golden rollback {plan.image} --to {plan.build_id} {names}` does the rest",
                      dict.fromkeys(outcomes.done, f"is back at {plan.build_id}"))
    return record


def _refresh(account: Account, wanted: Definition, region: str, version: Version, progress: Progress) -> None:
    asked = channels.published(wanted).instance_refresh
    assert asked is not None
    client = account.autoscaling(region)
    for group in refresh.groups(client, asked.groups):
        progress.say(f"{region}: refresh of {group}: "
                     + refresh.back(client, group, version, channels.preferences(wanted)))
