"""The `retire` stage: removes what nobody uses any more from the account, one step a run.

`retention` decides what goes and what stays, after each region was read. The same command continues
a run that was killed: it reads the account again, which holds the whole state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from goldenami.aws.channels import channels
from goldenami.aws.channels.lease import hold_leases
from goldenami.aws.channels.ledger import Ledger
from goldenami.aws.inventory import inventory, removal
from goldenami.aws.inventory.removal import FreshImages
from goldenami.aws.inventory.topology import Topology
from goldenami.aws.regions import Prepared, for_each_region
from goldenami.aws.session import Account, Client, translate
from goldenami.core import clock
from goldenami.core.errors import GoldenError
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions.definition import Definition
from goldenami.release.retire import retention
from goldenami.release.retire.retention import (
    Action,
    RegionRetirePlan,
    RetentionPolicy,
    RetirePlan,
    RetireStep,
)

_CHANGES: Mapping[RetireStep, removal.ImageStep] = {
    RetireStep.RECALL: removal.recall,
    RetireStep.DEPRECATE: removal.deprecate,
    RetireStep.DISABLE: removal.disable,
    RetireStep.NOTE_DISABLED: removal.note_disabled,
    RetireStep.DEREGISTER: removal.deregister,
}
_AT_ONCE = (RetireStep.DELETE_VERSION, RetireStep.DELETE_RECORD)
_SHARES_MATTER = frozenset({RetireStep.DEPRECATE, RetireStep.DISABLE})


def prepare(
    account: Account,
    image: str,
    regions: list[str],
    policy: RetentionPolicy,
    progress: Progress,
) -> Prepared[RetirePlan]:
    """Read every region and plan. In a region that cannot be read nothing is changed."""
    now, account = clock.now(), account.with_short_timeouts()

    def decide(region: str) -> RegionRetirePlan:
        topology = _read(account, region, image, policy)
        plan = retention.plan(topology, image, policy, now)
        # Shares cost a call for each image, so they are read only for what would go without them.
        shared = _with_shares(account.ec2(region), topology, plan, progress)
        if shared is None:
            return plan
        return retention.plan(shared, image, policy, now)

    with progress.step("look at the regions"):
        results = for_each_region(regions, decide)
    return Prepared(
        unreachable=results.failed,
        plan=RetirePlan(
            image=image,
            planned_at=clock.stamp(now),
            policy=policy,
            regions=list(results.done.values()),
            unreachable=results.causes,
        ),
    )


def with_dropped(prepared: Prepared[RetirePlan], definition: Definition) -> Prepared[RetirePlan]:
    """Add the regions to the plan that the ledgers know and the definition does not."""
    published_to = [planned.published_to for planned in prepared.plan.regions]
    dropped = channels.dropped(definition, published_to)
    return replace(prepared, plan=prepared.plan.model_copy(update={"dropped": dropped}))


def _read(account: Account, region: str, image: str, policy: RetentionPolicy) -> Topology:
    topology = inventory.read(account, region, image)
    if policy.keep_last > 1:
        return topology
    # With a single build kept there is none to roll back to.
    pointers = dict(topology.pointers)
    pointers.pop(inventory.ROLLBACK, None)
    return replace(topology, pointers=pointers)


def _with_shares(
    ec2: Client, topology: Topology, plan: RegionRetirePlan, progress: Progress
) -> Topology | None:
    """The topology with the accounts that use images or snapshots which the plan would take from
    them, or None if the plan takes nothing from others."""
    due = _targets(plan.actions, *_SHARES_MATTER)
    backing = _targets(plan.actions, RetireStep.DELETE_SNAPSHOT)
    for ami in topology.amis:
        if ami.id in due:
            backing.update(ami.snapshots)
    if not due | backing:
        return None
    with progress.step(
        f"shares in {topology.region}", f"of {len(due)} AMIs and {len(backing)} snapshots"
    ) as count:
        return inventory.with_shares(ec2, topology, sorted(due), sorted(backing), count)


def _targets(actions: Iterable[Action], *steps: RetireStep) -> set[str]:
    return {action.target for action in actions if action.step in steps}


def execute(account: Account, prepared: Prepared[RetirePlan], progress: Progress) -> None:
    """Execute the plan in all regions in parallel, then raise an error if anything was refused."""
    plan = prepared.plan
    plans = {planned.region: planned for planned in plan.regions if planned.actions}
    refused: dict[str, list[GoldenError]] = {region: [] for region in plans}

    def work(region: str) -> None:
        # Pointers may have moved between plan and lease: what they name now is left alone.
        due, kept = _still_due(plans[region], leases[region].ledger, plan.policy)
        for line in kept:
            progress.say(f"{region}: {line}")
        _retire(account, region, due, refused[region], progress)

    # Under the leases no publish, promotion or rollback moves a pointer meanwhile.
    with hold_leases(account, plan.image, list(plans)) as leases:
        for_each_region(plans, work)
    check(prepared, refused)


def staying(plan: RetirePlan) -> set[str]:
    """The builds that still have an AMI in any region after the plan."""
    builds = set[str]()
    for region in plan.regions:
        acted_on, going = set[str](), set[str]()
        for action in region.actions:
            acted_on.add(action.build_id)
            if action.step is RetireStep.DEREGISTER:
                going.add(action.build_id)
        builds |= acted_on - going
        builds |= {survivor.build_id for survivor in region.survivors}
    return builds


def check(prepared: Prepared[RetirePlan], refused: Mapping[str, list[GoldenError]]) -> None:
    """Raise an error if a region could not be read or an action was refused."""
    prepared.check(
        refused, "not everything was retired", f"`golden retire {prepared.plan.image}` continues"
    )


def _still_due(
    planned: RegionRetirePlan,
    ledger: Ledger,
    policy: RetentionPolicy,
) -> tuple[list[Action], list[str]]:
    """Split the actions into those that are still due, and a line for each on a build that the
    ledger names by now. A recall is always due."""
    entries = {"candidate": ledger.candidate, "latest": ledger.latest}
    if policy.keep_last > 1:
        entries = {inventory.ROLLBACK: ledger.previous(), **entries}
    channel_of = {entry.build_id: name for name, entry in entries.items() if entry}
    due, kept = list[Action](), list[str]()
    for action in planned.actions:
        if action.step is RetireStep.RECALL or action.build_id not in channel_of:
            due.append(action)
        else:
            kept.append(
                f"keep {action.target} ({action.build_id}): "
                f"it is {channel_of[action.build_id]} since the plan was made"
            )
    return due, kept


def _retire(
    account: Account,
    region: str,
    due: list[Action],
    refused: list[GoldenError],
    progress: Progress,
) -> None:
    """Do the actions of one region in order. If one fails, the others of its build are not done."""
    stopped, finished = set[str](), list[Action]()
    ec2, ssm = account.ec2(region), account.ssm(region)
    present = removal.FreshImages(ec2, [action.target for action in due if action.step in _CHANGES])

    def try_all(
        actions: list[Action], do: Callable[[list[str]], Mapping[str, GoldenError]]
    ) -> None:
        remaining = [action for action in actions if action.build_id not in stopped]
        targets = [action.target for action in remaining]
        failed: Mapping[str, GoldenError] = {}
        try:
            if targets:
                failed = do(targets)
        # translate raises an exception that is no error of AWS's or ours
        except Exception as error:
            failed = dict.fromkeys(targets, translate(error, region))
        for action in remaining:
            if action.target in failed:
                refused.append(failed[action.target])
                stopped.add(action.build_id)
            else:
                finished.append(action)
                progress.say(f"{region}: {action.step.value} {action.target}")

    # Versions of templates go first and records last, many by one call. That is also their order
    # within each build.
    of_step = defaultdict[RetireStep, list[Action]](list)
    for action in due:
        of_step[action.step].append(action)
    with progress.step(region, f"{len(due)} actions") as count:
        try_all(
            of_step[RetireStep.DELETE_VERSION],
            lambda targets: removal.delete_versions(ec2, targets),
        )
        for action in due:
            count(len(finished), len(due), "actions")
            if action.step not in _AT_ONCE:
                try_all([action], partial(_do_step, ec2, action.step, present))
        try_all(
            of_step[RetireStep.DELETE_RECORD],
            lambda targets: removal.delete_records(ec2, ssm, targets),
        )


def _do_step(
    ec2: Client, step: RetireStep, present: FreshImages, targets: list[str]
) -> dict[str, GoldenError]:
    for target in targets:
        if step is RetireStep.DELETE_SNAPSHOT:
            removal.delete_snapshot(ec2, target)
        elif (image := present.get(target)) is not None:  # an image that is gone needs no step
            _CHANGES[step](ec2, image, clock.now())
    return {}


def lines(plan: RetirePlan) -> Iterator[str]:
    """The plan in lines for a person: what happens, what stays and why, and problems."""
    policy = plan.policy
    yield (
        f"retire {plan.image}: what is beyond the newest {policy.keep_last} and older than "
        f"{policy.max_age_days} "
        f"days; disable {policy.disable_after_days} days after that is announced, deregister "
        f"{policy.deregister_after_days} days later"
    )
    for region in plan.regions:
        for action in region.actions:
            yield (
                f"  {region.region:<15} {action.step.value} {action.target} "
                f"({action.build_id}): {action.why}"
            )
        for survivor in region.survivors:
            yield (
                f"  {region.region:<15} keep {survivor.target} "
                f"({survivor.build_id}): {'; '.join(survivor.reasons)}"
            )
        for problem in region.problems:
            yield f"  {region.region:<15} look: {problem}"
        if not (region.actions or region.survivors):
            yield f"  {region.region:<15} nothing of this image"
    for name, cause in plan.unreachable.items():
        yield f"  {name:<15} unreachable: {cause}"
    for name in plan.dropped:
        yield f"  {name:<15} {channels.DROPPED}"
