"""Plans a publish: what each region has, what it lacks, and what is refused. Nothing is changed
here."""

from __future__ import annotations

from datetime import timedelta

from goldenami.aws import tags
from goldenami.aws.channels import channels
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.ledger import partly_withdrawn
from goldenami.aws.images import AmiSettings, ImageSpec
from goldenami.aws.session import check_regions
from goldenami.core import clock
from goldenami.core.errors import Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.model.operation.publish_section import Publish
from goldenami.release.publish import hold_back, region_plans, upload_plan
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.publish_records import PublishPlan
from goldenami.release.publish.release_gate import VerifiedBuild


def prepare(
    image: ImageInAccount, build: VerifiedBuild, criteria: Criteria, progress: Progress
) -> PublishPlan:
    """Plan the publish, or raise the error that refuses it."""
    image = image.with_short_timeouts
    with progress.step("look at the regions"):
        plan = _of_account(image, build, criteria)
        plan = upload_plan.with_encryption(image.account, plan)
    return upload_plan.with_transfers(image, plan, build, progress)


def _of_account(image: ImageInAccount, build: VerifiedBuild, criteria: Criteria) -> PublishPlan:
    """The plan without transfers: by one call for the account and five for each region, and more
    only if something is to do."""
    section, build_id = image.section, build.bake.build_id
    check_regions(section.regions)
    results = image.read_build(section.regions, build_id)
    # Asked before failures are raised, since the error about a wrong account says best what is
    # wrong; not if a region does not answer.
    if not any(isinstance(error, Unreachable) for error in results.failed.values()):
        number = image.account.expect(section.account, section.regions[0])
    states = results.require_all()
    spec = _spec(build)
    held_back = hold_back.decide(image, build, states.values(), spec, criteria)
    ledgers = {region: state.ledger for region, state in states.items()}
    differing = ""
    if held_back.why:
        differing = channels.differing(ledgers)
    withdrawn = partly_withdrawn(ledgers, ledgers)
    published_to = [ledger.regions for ledger in ledgers.values()]
    plan = PublishPlan(
        image=image.name,
        build_id=build_id,
        account=number,
        spec=spec,
        kms_key=section.kms_key,
        baked_at=build.bake.started_at,
        settings=_settings(section, build),
        gpu=held_back.gpu,
        held_back=held_back.why,
        regions=(),
        differing=differing,
        dropped=channels.dropped(image.definition, published_to),
        withdraw=tuple(name for name in withdrawn if name != build_id),
    )
    plan = region_plans.with_regions(image, build, plan, states)
    if plan.is_done:
        return plan
    return region_plans.checked(image, plan, states)


def _settings(section: Publish, build: VerifiedBuild) -> AmiSettings:
    deprecate_at = clock.now() + timedelta(days=section.deprecate_after_days)
    return AmiSettings(
        share_with=tuple(sorted(section.share_with)),
        instance_types=build.allowed,
        protect=section.deregistration_protection,
        deprecate_at=clock.stamp(deprecate_at),
    )


def _spec(build: VerifiedBuild) -> ImageSpec:
    """The specification of the build's AMIs. On AMIs for GPUs a tag has the requirements that a GPU
    test has to prove."""
    spec = ImageSpec.of(build.bake, build.lock.description, build.lock.base.architecture)
    own_tags = {**spec.tags, tags.INSTANCE_TYPES: build.allowed.digest}
    if build.asked.classes:
        own_tags[tags.GPU_TEST] = str(build.asked)
    return spec.model_copy(update={"tags": own_tags})
