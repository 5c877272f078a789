"""The command between publish and promote: test the candidate on a GPU of each declared
architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer

from goldenami.aws import images, tags
from goldenami.aws.channels import evidence
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.ledger import LedgerEntry
from goldenami.aws.images import Image
from goldenami.aws.instances import instance_types, instances
from goldenami.aws.instances.instances import Subnet
from goldenami.aws.pricing import prices
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, translated
from goldenami.commands import DryRun, ImageName, Regions, lead_to
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import bake_plan
from goldenami.image.provenance import provenance
from goldenami.image.report import report
from goldenami.local.host import workspace
from goldenami.model.builds.gpu_proofs import ATTEST_FILE, GpuTestRecord
from goldenami.model.locked import lockfile
from goldenami.model.supported import hardware
from goldenami.release.gpu_test import capacity, gpu_evidence, gpu_test
from goldenami.release.gpu_test.capacity import Offer, RegionTypes
from goldenami.release.publish import promote

Hours = Annotated[
    float,
    typer.Option("--hours", metavar="H", min=0.2, max=12, help="what one instance may run at most"),
]
MaxUsd = Annotated[
    float | None,
    typer.Option(
        "--max-usd",
        metavar="USD",
        min=0.01,
        help="what the whole test may cost (default: no limit)",
    ),
]
WaitMinutes = Annotated[
    float,
    typer.Option(
        "--wait-minutes", metavar="M", min=0, help="keep asking so long while EC2 has no capacity"
    ),
]
_SHOWN = 6
"""How many offers of an architecture a plan names; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class GpuTestOptions:
    """The arguments and options of `golden gpu-test`."""

    image: ImageName
    dry_run: DryRun = False
    region: Regions = field(default_factory=list)
    hours: Hours = 1.0
    max_usd: MaxUsd = None
    wait_minutes: WaitMinutes = 30.0


@translated()
def cmd_gpu_test(checkout: Checkout, options: GpuTestOptions) -> int:
    """Check the candidate on the cheapest GPU of each declared architecture, record it,
    terminate."""
    image, hours = options.image, options.hours
    definition = checkout.definition(image)
    # Publishers may not write test records, so tests can have a profile of their own.
    account = checkout.account(definition).tester()
    tested = ImageInAccount(account, definition)
    progress = checkout.progress("gpu-test", image)
    if not hardware.architectures(checkout.root, definition.hardware):
        progress.say(f"nothing to test: {image} declares no NVIDIA GPU")
        return 0
    key = provenance.demanded(checkout.root, definition, account)
    lock, digest = checkout.lock(image)
    # The test's checks are those of this checkout, so it only tests the build of its lock.
    build_id = digest[: lockfile.ID_LENGTH]
    with progress.step("look at the account"):
        entries = _candidates(tested, options.region, build_id)
        candidates = _amis(tested, entries, digest)
        subnets = {
            name: instances.subnets(account.ec2(name), tested.section.subnets)
            for name in candidates
        }
        offers = _offers(checkout, tested, subnets)
        offers = capacity.affordable(offers, hours, options.max_usd)
    print("\n".join(_plan(image, build_id, offers, hours)), flush=True)
    if options.dry_run:
        return 0
    builds, root = checkout.builds(image), checkout.root
    with (
        workspace.image_lock(root, image),
        workspace.scratch_in(builds.path, "gpu-test") as scratch,
    ):
        variables = scratch / "vars.json"
        records.write_text(
            variables, records.canonical(bake_plan.role_variables(root, lock, digest))
        )
        for name in {offer.region for sm_offers in offers.values() for offer in sm_offers}:
            # Noted before anything is launched: `golden sweep` looks there for what a killed test
            # left.
            workspace.note_region(root, image, name)
        test = gpu_test.GpuTest(
            root=root,
            account=account,
            lock=lock,
            build_id=build_id,
            candidates=candidates,
            variables=variables,
            work=scratch,
            log=builds.logs / f"gpu-test-{build_id}.log",
            hours=hours,
            wait_s=60 * options.wait_minutes,
            subnets=subnets,
        )
        for line in gpu_test.clear(test):
            progress.say(line)
        record = gpu_test.run(test, offers, progress)
    _record_result(checkout, account, list(candidates), gpu_evidence.signed(record, key), progress)
    progress.remember()
    return 0


def _record_result(
    checkout: Checkout,
    account: Account,
    regions: Sequence[str],
    record: GpuTestRecord,
    progress: Progress,
) -> None:
    # Kept here, too, if the build is: its report shows the test.
    if (folder := checkout.builds(record.image).build(record.build_id)).is_baked:
        records.write(folder.path / ATTEST_FILE, record)
        report.tell(folder, progress)
    for_each_region(regions, lambda name: evidence.write(account.ssm(name), record)).require_all(
        "the test passed and is not recorded everywhere",
        f"run `golden gpu-test {record.image}` again",
    )
    for machine in record.machines:
        progress.say(
            f"{machine.checks} checks passed on {machine.gpu} ({machine.instance_type}, "
            f"{machine.region})"
        )
    lead_to("promote", record.image)


def _candidates(
    image: ImageInAccount, only: Sequence[str], build_id: str
) -> dict[str, LedgerEntry]:
    regions = list(only) or image.definition.regions
    candidates = promote.candidates(image.read_ledgers(regions).require_all())
    if not candidates:
        raise BadInput(
            f"{image.name} has no candidate in {', '.join(regions) or 'any region'}",
            hint=f"`golden publish {image.name}` makes one",
        )
    if other_builds := {
        name: entry.build_id for name, entry in candidates.items() if entry.build_id != build_id
    }:
        name, other_build = next(iter(other_builds.items()))
        raise BadInput(
            f"the candidate in {name} is build {other_build}, the lock here is of {build_id}",
            hint="check out the commit of the candidate (its AMI's tag "
            "goldenami:git-commit), or publish",
        )
    return candidates


def _amis(
    image: ImageInAccount, entries: Mapping[str, LedgerEntry], lock_sha256: str
) -> dict[str, Image]:
    def read(region: str) -> Image | None:
        ami = entries[region].ami
        return images.get(image.account.ec2(region), [ami]).get(ami)

    amis_found = for_each_region(entries, read).require_all()
    amis, digests = dict[str, Image](), {tags.LOCK_SHA256: lock_sha256}
    for name, ami in amis_found.items():
        ami_tags = ami.tags if ami else {}
        # The first region's digests hold for all: a candidate has the same bytes everywhere.
        digests = {
            tag: ami_tags.get(tag, "") for tag in (tags.DISK_SHA256, tags.MANIFEST_SHA256)
        } | digests
        if ami is None or any(ami_tags.get(tag, "") != value for tag, value in digests.items()):
            problem = "of other bytes" if ami else "gone"
            removal = f"{images.removal_command(name, ami.ami)}, then " if ami else ""
            raise BadInput(
                f"the candidate's AMI {entries[name].ami} in {name} is {problem}",
                hint=f"{removal}`golden publish {image.name}` makes it again",
            )
        amis[name] = ami
    return amis


def _offers(
    checkout: Checkout, image: ImageInAccount, subnets: Mapping[str, Mapping[str, Subnet]]
) -> dict[str, list[Offer]]:
    """Return the instances that can be launched, by architecture. `subnets` are those of the
    definition, by region and zone."""
    families_by_name = hardware.load(checkout.root)
    families = [name for name in image.definition.hardware if families_by_name[name].sm]

    def types(name: str) -> RegionTypes:
        client = image.with_short_timeouts.account.ec2(name)
        rows = {row["InstanceType"]: row for row in instance_types.describe(client, families)}
        zones: dict[str, list[str]] = {}
        for instance_type, zone in instance_types.zones(client, families):
            # A definition without subnets allows every zone.
            if zone in subnets[name] or not subnets[name]:
                zones.setdefault(instance_type, []).append(zone)
        return RegionTypes(rows, zones, prices.spot_by_zone(client, sorted(rows)))

    region_types = for_each_region(subnets, types).require_all()
    names = sorted({name for types in region_types.values() for name in types.described})
    priced, _ = prices.hourly_by_type(image.account, names)
    return capacity.offers(families_by_name, families, region_types, priced)


def _plan(image: str, build_id: str, offers: dict[str, list[Offer]], hours: float) -> list[str]:
    least_usd = capacity.cheapest_usd(offers, hours)
    cost = (
        "its prices are not known"
        if least_usd is None
        else f"at most ${least_usd:.2f} for the cheapest types"
    )
    lines = [
        f"test {image} {build_id} on {len(offers)} GPU architectures, {hours:g} h each at most; "
        f"{cost}"
    ]
    for sm, sm_offers in offers.items():
        lines += [f"  sm_{sm:<4} {offer}" for offer in sm_offers[:_SHOWN]]
        lines += (
            [f"  sm_{sm:<4} and {len(sm_offers) - _SHOWN} more"] if len(sm_offers) > _SHOWN else []
        )
    return lines
