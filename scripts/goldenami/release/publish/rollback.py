"""The `rollback` stage: `latest` and the launch template's default go back in all regions at once.

It needs no disk and no record on this machine: the account knows which build was before. A region
that does not answer, or has lost the build, does not hold up the others; the same command, perhaps
with `--region`, takes it back later. A template's default that a person set stays. A repeated
rollback brings all pointers to where the first went; only `--to` goes a second step back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from goldenami.aws import images, tags
from goldenami.aws.channels import channels, pointers, refresh
from goldenami.aws.channels.channels import ImageInAccount, ImageInRegion, RegionPointers
from goldenami.aws.channels.lease import LIFE_S, hold_leases
from goldenami.aws.channels.ledger import (
    Channel,
    GpuProof,
    Ledger,
    LedgerEntry,
    partly_withdrawn,
    withdrawn_in,
)
from goldenami.aws.channels.pointers import Version
from goldenami.aws.images import AmiState, Image
from goldenami.aws.regions import FORWARD_S, Prepared, combined_error, for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.core.errors import BadInput, GoldenError, NotVerified, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.release.publish import channel_moves
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.publish_records import MovePlan, RegionMove


@dataclass(frozen=True)
class _Answers:
    """The regions' answers: the ledgers of all, the pointers of those that are to go back, and the
    errors of those that did not answer.

    The ledgers in `pointers` also have the builds that any other region withdrew.
    """

    ledgers: dict[str, Ledger]
    pointers: dict[str, RegionPointers]
    failed: dict[str, GoldenError]

    def as_planned_by(self, region: str) -> RegionPointers:
        """A region's pointers with the ledger exactly as it was read, since the plan keeps that
        ledger's digest."""
        return replace(self.pointers[region], ledger=self.ledgers[region])

    def to_withdraw(self, target: str, baked: datetime) -> set[str]:
        """The builds that no publish may bring back: those that only some regions have withdrawn,
        and those that `latest` names and that are newer than the target."""
        builds = {*partly_withdrawn(self.ledgers, self.pointers)} - {target}
        for region_pointers in self.pointers.values():
            latest = region_pointers.ledger.latest
            if latest and latest.baked > baked:
                builds.add(latest.build_id)
        return builds

    @property
    def further(self) -> str | None:
        """The build before the present one, or None if it is not the same in all regions."""
        entries = [region_pointers.ledger.previous() for region_pointers in self.pointers.values()]
        builds = {entry.build_id for entry in entries if entry}
        if len(builds) > 1 or None in entries or not entries:
            return None
        return builds.pop()


def prepare(
    image: ImageInAccount, criteria: Criteria, *, to: str | None, regions: list[str]
) -> Prepared[MovePlan]:
    """Plan the rollback to the build `to`, by default to the one before the present one. An empty
    list of `regions` means all of them.

    Raises BadInput if no region can launch that build; if only some cannot, or do not answer, that
    is noted in the result. Raises NotVerified for a build that `latest` never named and that
    `promote` would refuse.
    """
    image = image.with_short_timeouts
    names = regions or image.section.regions
    check_regions(names)
    answers = _ask(image, names)
    target = to or _target(image.name, answers.pointers)
    launchable = for_each_region(
        answers.pointers, lambda region: _launchable(image.in_region(region), target)
    )
    amis = launchable.done or launchable.require_all()  # raises if no region can launch it
    gpu = _gpu_proof(image, target, amis, answers, criteria)
    moves = [_move(answers.as_planned_by(region), target, ami, gpu) for region, ami in amis.items()]
    failed = {**answers.failed, **launchable.failed}
    plan = _plan(image, target, answers, moves).model_copy(
        update={"unreachable": {region: error.message for region, error in failed.items()}}
    )
    return Prepared(plan, {region: error for region, error in failed.items() if region in names})


def _plan(
    image: ImageInAccount, target: str, answers: _Answers, moves: list[RegionMove]
) -> MovePlan:
    """The plan of the `moves` of `latest`, and of the candidate where it has to move, too."""
    baked = max(datetime.fromisoformat(move.baked_at) for move in moves)
    withdraw = answers.to_withdraw(target, baked)
    regions = []
    for move in moves:
        ledger, planned = answers.pointers[move.region].ledger, move
        if _takes_candidate(ledger, withdraw, target, baked):
            planned = move.model_copy(update={"channels": tuple(Channel)})
        regions.append(planned)
    published_to = [ledger.regions for ledger in answers.ledgers.values()]
    return MovePlan(
        image=image.name,
        build_id=target,
        template=pointers.template_name(image.name),
        account=image.account.expect(image.section.account, next(iter(answers.pointers))),
        further=answers.further,
        withdraw=tuple(sorted(withdraw)),
        dropped=channels.dropped(image.definition, published_to),
        regions=tuple(regions),
    )


def _ask(image: ImageInAccount, names: Collection[str]) -> _Answers:
    """Read the ledgers of all regions, and the pointers of those in `names`. Raises an error if
    none of `names` answers."""
    # The other regions' ledgers are needed, because a region of `names` may have been down when
    # another withdrew a build, and would go back to a bad build.
    everywhere = dict.fromkeys([*names, *image.section.regions])
    ledgers = image.read_ledgers(everywhere)
    answered = ledgers.done
    withdrawn = withdrawn_in(answered)

    def read_pointers(region: str) -> RegionPointers:
        return image.in_region(region).read_pointers(answered[region].withdraw(*withdrawn))

    results = for_each_region([name for name in names if name in answered], read_pointers)
    failed = {**ledgers.failed, **results.failed}
    if not results.done:
        errors = {name: failed[name] for name in names}
        raise combined_error(errors, "nothing is changed", "then run again", {})
    return _Answers(answered, results.done, failed)


def _takes_candidate(ledger: Ledger, withdraw: set[str], target: str, baked: datetime) -> bool:
    """Whether the candidate has to move, too: because this rollback withdraws it, because an
    earlier one that did not end did so, or because it is older than the target and could not be
    promoted."""
    candidate = ledger.candidate
    if candidate is None or candidate.build_id == target:
        return False
    return candidate.baked < baked or candidate.build_id in {*withdraw, *ledger.withdrawn}


def _target(image: str, states: dict[str, RegionPointers]) -> str:
    """The build to go back to, the same in all regions. Raises BadInput if there is no such
    build."""
    latest, went_to = set[str](), set[str]()
    good, before = list[LedgerEntry](), dict[str, str]()
    for region, state in states.items():
        ledger = state.ledger
        if previous := ledger.previous():
            before[region] = previous.build_id
        if ledger.latest is None:
            continue
        latest.add(ledger.latest.build_id)
        if ledger.latest.build_id not in ledger.withdrawn:
            good.append(ledger.latest)
            if ledger.went_back:
                went_to.add(ledger.latest.build_id)
    # If regions went back already, this finishes the first rollback: it goes where they went.
    if len(went_to) == 1:
        return went_to.pop()
    # If a publish was stopped half-way, it goes to the older build that some regions still have.
    if good and len(latest) > 1:
        return min(good, key=lambda entry: entry.baked).build_id
    if len(set(before.values())) == 1 and before.keys() == states.keys():
        return next(iter(before.values()))
    listed = ", ".join(f"{region}: {before.get(region, 'none')}" for region in states)
    raise BadInput(
        f"no build before the present one of {image} is common to all regions ({listed})",
        hint=f"`golden rollback {image} --to ID` names it; `golden status {image}` lists builds",
    )


def _launchable(image: ImageInRegion, target: str) -> Image:
    """The region's AMI of the build. Raises BadInput if it cannot be launched."""
    ami = images.find(image.ec2, f"{image.name}-{target}")
    if ami and ami.state == AmiState.AVAILABLE and ami.tags.get(tags.BUILD_ID) == target:
        return ami
    problem = "gone"
    if ami:
        problem = f"{ami.ami} is {ami.state}"
    raise BadInput(
        f"build {target} of {image.name} cannot be launched in {image.region}: {problem}",
        hint=f"`golden publish {image.name} --build {target}` makes it again, `aws ec2 "
        f"enable-image` enables a disabled one; `golden rollback {image.name} --to ID` takes "
        "another build",
    )


def _gpu_proof(
    image: ImageInAccount,
    target: str,
    amis: dict[str, Image],
    answers: _Answers,
    criteria: Criteria,
) -> GpuProof:
    """The build's GPU proof. A build with AMIs that `latest` never named has to pass the checks of
    a promotion."""
    former, candidates = dict[str, GpuProof](), list[LedgerEntry]()
    for region_pointers in answers.pointers.values():
        ledger = region_pointers.ledger
        for entry in _entries_of(target, ledger.latest, *ledger.history):
            former[entry.ami] = entry.gpu
        candidates += _entries_of(target, ledger.candidate)
    # The ledger's proof also holds for other AMIs of the same disk.
    if former and _have_one_disk(amis.values(), former.keys()):
        return next(iter(former.values()))
    finding = channel_moves.on_gpus(image, target, amis, criteria.judge)
    gpu = channel_moves.gpu(
        image.name,
        target,
        [entry.gpu for entry in candidates],
        finding,
        accept=criteria.accept_untested_gpu,
    )
    if not criteria.now:
        _check_soaked(target, [entry.since for entry in candidates], image.section.soak_hours)
    return gpu


def _entries_of(target: str, *entries: LedgerEntry | None) -> list[LedgerEntry]:
    return [entry for entry in entries if entry and entry.build_id == target]


def _have_one_disk(amis: Collection[Image], proven: Collection[str]) -> bool:
    """Whether each AMI is in `proven`, or is of the disk of one that is."""
    disks = {ami.tags.get(tags.DISK_SHA256) for ami in amis if ami.ami in proven} - {None}
    return all(ami.ami in proven or ami.tags.get(tags.DISK_SHA256) in disks for ami in amis)


def _check_soaked(target: str, since: Collection[str], hours: int) -> None:
    """Raise NotVerified for a build that was not the candidate for `hours`, as far as is known."""
    if not hours:
        return
    if not since:
        raise NotVerified(
            f"build {target} was neither `latest` nor is it the candidate: whether it stood "
            f"{hours} h is not known",
            hint="--now goes on without",
        )
    channel_moves.check_soaked(target, since, hours)


def _move(current: RegionPointers, target: str, image: Image, gpu: GpuProof) -> RegionMove:
    baked_at = image.raw["CreationDate"]
    if entry := current.ledger.entry_of(target):
        baked_at = entry.baked_at
    return channel_moves.region_move(current, image.ami, baked_at, gpu)


def execute(image: ImageInAccount, prepared: Prepared[MovePlan], progress: Progress) -> None:
    """Take every region back. Regions that failed, now or in the plan, are raised as one error
    after the others are done."""
    plan, account = prepared.plan, image.account
    moves, fences = {move.region: move for move in plan.regions}, dict[str, int]()

    def back(region: str) -> None:
        # Each region has its own lease, so that none waits for another.
        with hold_leases(account, plan.image, [region], wait_s=LIFE_S) as leases:
            # If nobody held the lease since our last try, the ledger may differ from the plan by
            # our own writes only, and is not checked again.
            if fences.get(region) != leases[region].fence - 1:
                channel_moves.check_unmoved(account, plan, moves[region], leases[region])
            fences[region] = leases[region].fence
            version = channel_moves.apply(
                image, plan, moves[region], leases[region], reuse_version=True
            )
        assert version is not None  # the ledger names `latest`
        progress.say(
            f"{region}: latest is {moves[region].ami}, by the template's version {version.number}"
        )
        if instance_refresh := image.section.instance_refresh:
            groups = refresh.groups(account.autoscaling(region), instance_refresh.groups)
            image.in_region(region).refresh_groups(groups, version, progress, refresh.go_back)
        _check_template(account, region, plan, version)

    with progress.step("back"):
        results = for_each_region(moves, back, again_s=FORWARD_S)
    failed = {**prepared.unreachable, **results.failed}
    if failed:
        names = " ".join(f"--region {region}" for region in failed)
        raise combined_error(
            failed,
            f"{len(results.done)} of {len(moves) + len(prepared.unreachable)} regions went back",
            f"`golden rollback {plan.image} --to {plan.build_id} {names}` does the rest",
            dict.fromkeys(results.done, f"is back at {plan.build_id}"),
        )


def _check_template(account: Account, region: str, plan: MovePlan, version: Version) -> None:
    """Raise StageFailed if a person set the template's default, which no rollback replaces."""
    default = pointers.default_version(account.ec2(region), plan.template)
    if default and default.is_by_hand:
        raise StageFailed(
            f"`latest` is back at {plan.build_id} in {region}, and the default of {plan.template} "
            f"stays version {default.number}, which somebody set",
            hint=f"`aws ec2 modify-launch-template --region {region} --launch-template-name "
            f"{plan.template} --default-version {version.number}` takes it back, too",
        )
