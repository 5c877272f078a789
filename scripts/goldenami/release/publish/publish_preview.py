"""The plan of a publish in lines for a person."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.aws.channels import channels, pointers
from goldenami.core import units
from goldenami.release.publish.publish_records import PublishPlan, RegionPublishPlan, Upload


def lines(plan: PublishPlan) -> list[str]:
    """The plan in lines for a person, with one for each step in each region."""
    lines = [f"publish {plan.image} {plan.build_id} in account {plan.account}: {plan.gpu.value}"]
    for region in plan.regions:
        steps = list(_steps(region, plan)) or [f"nothing to do: {region.ami} has all of it"]
        lines += [f"  {region.region:<15} {text}" for text in steps]
    lines += [f"  {region:<15} {channels.DROPPED}" for region in plan.dropped]
    for name, missing in plan.missing_families.items():
        lines.append(f"  {name:<15} has no {', '.join(missing)}, which the definition declares")
    for name, counts in plan.refused_machines.items():
        for instance_type, count in counts.items():
            lines.append(
                f"  {name:<15} EC2 will not launch this build on {instance_type}, as {count} "
                "running machines of the image are"
            )
    sent = [region.upload.bytes for region in plan.regions if region.upload]
    if len(sent) > 1:
        lines.append(f"  {units.size(sum(sent))} leave this machine, for {len(sent)} regions")
    if plan.held_back:
        lines.append(f"  `latest` and the template stay: {plan.held_back}")
    if plan.differing:
        lines.append(f"  {plan.differing}: a promotion makes them alike")
    return lines


def _steps(region: RegionPublishPlan, plan: PublishPlan) -> Iterator[str]:
    target = region.ami or "the new AMI"
    if region.upload:
        yield _sending(region.upload)
    if region.ami is None:
        yield from _making(region, plan)
    for text in region.settings:
        yield f"correct {region.ami}: {text}"
    if region.record_build:
        yield f"record {pointers.build_name(plan.image, plan.build_id)}"
    if region.sign:
        yield f"sign where {target} comes from"
    yield from _moves(region, plan, target)
    for text in region.misplaced:
        yield f"bring back: {text}"
    for group in region.refresh:
        yield f"refresh the group {group}"


def _sending(upload: Upload) -> str:
    text = f"send {units.size(upload.bytes)} in {upload.blocks} blocks"
    if upload.parent:
        return f"{text}, the rest is in {upload.parent_snapshot} (build {upload.parent})"
    if upload.whole:
        return f"{text}, the whole disk: {upload.whole}"
    return text


def _moves(region: RegionPublishPlan, plan: PublishPlan, target: str) -> Iterator[str]:
    """Yield the moves of pointers to `target`."""
    for channel, before in region.moves.items():
        name = pointers.channel_name(plan.image, channel)
        yield f"move {name}: {before or 'nothing'} -> {target}"
    if region.moves_template:
        default = "no template"
        if region.template:
            default = f"version {region.template} ({region.template_ami})"
        yield (
            f"move the default of {pointers.template_name(plan.image)}: "
            f"{default} -> a version with {target}"
        )


def _making(region: RegionPublishPlan, plan: PublishPlan) -> Iterator[str]:
    """Yield how an AMI is made, and its settings."""
    if region.copy_of:
        yield (
            f"copy {region.copy_of.ami or 'the new AMI'} of {region.copy_of.region} to "
            f"{plan.spec.name}{_encrypted(region, plan)}"
        )
    else:
        yield (
            f"register {plan.spec.name}: {plan.spec.architecture}, {plan.spec.boot_mode}, "
            f"IMDSv2 only, ENA, {plan.spec.volume_size_gib} GiB {plan.spec.volume_type}"
            f"{_encrypted(region, plan)}"
        )
    if plan.settings.instance_types.supported:
        yield f"launch only on {plan.settings.instance_types}"
    deprecation = f"deprecate on {plan.settings.deprecate_at[:10]}"
    if plan.settings.protect:
        deprecation += ", protect from deregistration"
    yield deprecation
    if plan.settings.share_with:
        yield f"share with {', '.join(plan.settings.share_with)}"


def _encrypted(region: RegionPublishPlan, plan: PublishPlan) -> str:
    if region.encryption is None or region.encryption.key is None:
        return ""
    return f", encrypted by {plan.kms_key or region.encryption.key}"
