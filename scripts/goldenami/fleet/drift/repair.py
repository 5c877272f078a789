"""`golden drift repair`: what drifted is replaced, never mended. By its group where it has one,
else by a root volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from goldenami.aws import tags
from goldenami.aws.calls import pages, wait_for
from goldenami.aws.channels import pointers
from goldenami.aws.channels.lease import read_lease
from goldenami.aws.channels.ledger import Channel, LedgerEntry
from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.references import RESOLVE
from goldenami.aws.session import Account, Client, translated
from goldenami.core import records
from goldenami.core.errors import BadInput, StageFailed, Unreachable
from goldenami.core.records import Record
from goldenami.core.terminal.progress import Progress
from goldenami.core.wait import growing
from goldenami.fleet.drift.running_instance import RunningInstance

TASK_S = 1800.0
"""Seconds that a replacement may take: EBS makes a volume from a snapshot at once, and the instance
reboots."""
POLLS_S = (0.5, 2.0, 15.0)
_UNDER_WAY = ("pending", "in-progress", "failing", "failing-detached")
"""States of a task that has not ended (EC2 API reference, ReplaceRootVolumeTask)."""
_NEEDED = frozenset({"Launch", "Terminate"})
"""Processes without which a group replaces nothing ("Suspend and resume Amazon EC2 Auto Scaling
processes")."""


class RepairWay(StrEnum):
    """How an instance is replaced."""

    GROUP = "terminate it in its Auto Scaling group"
    ROOT_VOLUME = "replace its root volume"


class RepairPlan(Record):
    """What is done about one instance, and why so. `build_before` is empty where its AMI is no
    build of the image."""

    schema_version: Literal[1] = 1
    region: str
    instance: str
    image: str
    way: Annotated[RepairWay, Field(strict=False)]
    why: str
    group: str
    ami_before: str
    build_before: str
    ami: str
    build_id: str
    volume: str
    keep_volume: bool


def prepare(
    account: Account, instance: RunningInstance, images: list[str], *, keep_volume: bool
) -> RepairPlan:
    """Decide; nothing is changed. `images` are those of the checkout.

    BadInput where the instance has nothing to do with any of them, StageFailed where a replacement
    would drift again.
    """
    ec2 = account.ec2(instance.region)
    with translated(instance.region):
        group = _group(account.autoscaling(instance.region), instance.group)
        image = _image(ec2, instance, group, images)
        latest = read_lease(account.dynamodb(instance.region), image).ledger.latest
        if latest is None:
            raise BadInput(f"`latest` of {image} names no build in {instance.region}",
                           hint="publish one first")
        if group is not None:
            _demand_fresh(ec2, group, image, latest)
        elif instance.state != "running":
            raise StageFailed(f"{instance.instance} is {instance.state}, and EC2 replaces root "
                              "volumes of running "
                              "instances only", hint="start it, or terminate it; then run again")
    same = instance.build_id if instance.image == image else ""
    way = RepairWay.GROUP if group is not None else RepairWay.ROOT_VOLUME
    return RepairPlan(
        region=instance.region, instance=instance.instance, image=image, group=instance.group,
        volume=instance.volume,
        ami_before=instance.ami, build_before=same, ami=latest.ami, build_id=latest.build_id,
        way=way,
        why=_WHY[way], keep_volume=keep_volume and way is RepairWay.ROOT_VOLUME)


_WHY = {
    RepairWay.GROUP: "its group launches a fresh one; an instance refresh that skips what matches "
                     "would skip it, since it compares the template and not the disk",
    RepairWay.ROOT_VOLUME: "it is in no group, so nothing would launch another one; its addresses "
                           "and data volumes stay, and it reboots",
}


def _group(autoscaling: Client, name: str) -> dict[str, Any] | None:
    found = list(pages(autoscaling, "describe_auto_scaling_groups", "AutoScalingGroups",
                       AutoScalingGroupNames=[name])) if name else []
    return dict(found[0]) if found else None


def _image(
    ec2: Client, instance: RunningInstance, group: Mapping[str, Any] | None, images: list[str]
) -> str:
    if instance.image in images:
        return instance.image
    names = {version.template_id: version.template for version in inventory.default_versions(ec2)}
    launched = {names.get(instance.template, ""), *(
        spec.get("LaunchTemplateName") or names.get(spec["LaunchTemplateId"], "")
        for spec in _templates(group or {}))}
    found = [image for image in images if pointers.template_name(image) in launched]
    if len(found) != 1:
        raise BadInput(f"{instance.instance} runs {instance.ami} and is of no image of this "
                       "checkout",
                       hint="what was launched without this pipeline is repaired without it")
    return found[0]


def _templates(group: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    for spec in (group.get("LaunchTemplate"), mixed.get("LaunchTemplateSpecification"),
                 *(each.get("LaunchTemplateSpecification") for each in mixed.get("Overrides", []))):
        if spec:
            yield spec


def _demand_fresh(ec2: Client, group: Mapping[str, Any], image: str, latest: LedgerEntry) -> None:
    """StageFailed where the group would launch anything else than `latest`, or nothing."""
    name = group["AutoScalingGroupName"]
    if stopped := _NEEDED & {process["ProcessName"]
                             for process in group.get("SuspendedProcesses", [])}:
        raise StageFailed(f"the group {name} replaces nothing: {', '.join(sorted(stopped))} is "
                          "suspended",
                          hint="resume it, then run again")
    mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    launched = {each["ImageId"] for each in mixed.get("Overrides", []) if each.get("ImageId")}
    for spec in _templates(group):
        found = ec2.describe_launch_template_versions(
            LaunchTemplateId=spec["LaunchTemplateId"], Versions=[spec.get("Version") or "$Default"])
        launched |= {version["LaunchTemplateData"].get("ImageId", "")
                     for version in found["LaunchTemplateVersions"]}
    if not launched:
        raise StageFailed(f"the group {name} names no launch template: nobody can tell what "
                          "replaces the instance",
                          hint="give the group the pipeline's template, then run again")
    parameter = RESOLVE + pointers.channel_name(image, Channel.LATEST)
    if wrong := launched - {latest.ami, parameter}:
        raise StageFailed(f"the group {name} launches {', '.join(sorted(wrong))}, and `latest` is "
                          f"{latest.ami}: "
                          "what replaces the instance would drift, too",
                          hint="an instance refresh takes the group to the template's default "
                               "version")


def show(plan: RepairPlan) -> Iterator[str]:
    """The plan for a person."""
    before = f"build {plan.build_before}" if plan.build_before else "no build of it"
    yield f"{plan.instance} in {plan.region} ({plan.image}): {plan.way.value}"
    yield f"  why:  {plan.why}"
    yield f"  from: {plan.ami_before}, {before}" + (f", in {plan.group}" if plan.group else "")
    yield f"  to:   {plan.ami}, build {plan.build_id}, which `latest` names"
    if plan.way is RepairWay.ROOT_VOLUME:
        fate = "kept, for whoever investigates" if plan.keep_volume else "deleted"
        yield f"  {plan.volume} is {fate}"


def execute(account: Account, plan: RepairPlan, progress: Progress) -> None:
    """A repetition goes on with a replacement that is under way."""
    with translated(plan.region), progress.step(plan.way.value):
        if plan.way is RepairWay.GROUP:
            activity = account.autoscaling(plan.region).terminate_instance_in_auto_scaling_group(
                InstanceId=plan.instance, ShouldDecrementDesiredCapacity=False)["Activity"]
            progress.say(f"{plan.group}: {activity.get('Description') or activity['StatusCode']}")
        else:
            _replace_root(account.ec2(plan.region), plan)
            progress.say(f"{plan.instance} has a root volume of {plan.ami}")


def _replace_root(ec2: Client, plan: RepairPlan) -> None:
    earlier = _tasks(ec2, plan.instance)
    running = [task for task in earlier if task["TaskState"] in _UNDER_WAY]
    [task] = running[:1] or [ec2.create_replace_root_volume_task(
        InstanceId=plan.instance, ImageId=plan.ami, DeleteReplacedRootVolume=not plan.keep_volume,
        ClientToken=records.sha256_text(
            records.canonical([plan.instance, plan.volume, plan.ami, len(earlier)])),
        TagSpecifications=tags.specifications(
            {tags.IMAGE: plan.image, tags.BUILD_ID: plan.build_id}, "replace-root-volume-task"),
    )["ReplaceRootVolumeTask"]]
    name, state = task["ReplaceRootVolumeTaskId"], ""

    def ended() -> bool | None:
        nonlocal state
        state = next((each["TaskState"] for each in _tasks(ec2, plan.instance)
                      if each["ReplaceRootVolumeTaskId"] == name), "pending")
        return None if state in _UNDER_WAY else True

    if not wait_for(ended, limit_s=TASK_S, pauses=growing(*POLLS_S), what=f"{name} goes on"):
        raise Unreachable(f"{name} is {state} after {TASK_S:.0f} s",
                          hint="run again: it waits for the same task")
    if state != "succeeded":
        left = "it has no root volume now"
        if state != "failed-detached":
            left = "its old root volume is attached still"
        raise StageFailed(f"{name} of {plan.instance} is {state}: {left}",
                          hint="run again; or terminate it and launch another one")


def _tasks(ec2: Client, instance: str) -> list[dict[str, Any]]:
    return list(pages(ec2, "describe_replace_root_volume_tasks", "ReplaceRootVolumeTasks",
                      Filters=[{"Name": "instance-id", "Values": [instance]}]))
