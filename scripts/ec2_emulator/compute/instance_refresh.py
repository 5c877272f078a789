"""Instance refreshes of Auto Scaling groups: they replace instances, fail, roll back or are
refused."""

from __future__ import annotations

import copy
import datetime
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.common_types import TYPE_RESPONSE
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult

from ec2_emulator import listing
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.services import ssm_parameters
from ec2_emulator.state import STATE

RUNNING = ("Pending", "InProgress", "RollbackInProgress")
_NEXT = {
    "Pending": "InProgress",
    "InProgress": "Successful",
    "RollbackInProgress": "RollbackSuccessful",
}


@dataclass
class EmulatedRefresh:
    """A refresh of a group, with the group's configuration before it."""

    group: FakeAutoScalingGroup
    desired: dict[str, Any] | None
    preferences: dict[str, Any]
    before: dict[str, Any] | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "Pending"
    moved_at: float = field(default_factory=time.monotonic)

    def advance(self) -> None:
        # Several states may have passed since the last call.
        while self.status in RUNNING and STATE.is_over(
            self.moved_at, lambda settings: settings.refresh_s
        ):
            self.move(_NEXT[self.status])

    def move(self, status: str) -> None:
        self.moved_at = time.monotonic()
        if status == "Successful":
            status = self._replace(self.desired)
        elif status == "RollbackSuccessful":
            self._replace(self.before)
        self.status = status

    def _replace(self, configuration: dict[str, Any] | None) -> str:
        """Apply a configuration, replace the instances and return the refresh's next status. A
        configuration that has only a launch template removes the mixed instances policy."""
        group, target = self.group, copy.deepcopy(configuration or {})
        if target:
            group.mixed_instances_policy = target.get("MixedInstancesPolicy")
            group._set_launch_configuration(
                "", target.get("LaunchTemplate") or {}, group.mixed_instances_policy
            )
        image = ssm_parameters.resolve(group.account_id, group.region, group.image_id)
        skip_matching = bool(self.preferences.get("SkipMatching"))
        old_members = [
            member
            for member in group.instance_states
            if not (skip_matching and member.instance.image_id == image)
        ]
        # New instances first: if their launch is refused, the old ones still run.
        try:
            if old_members:
                group.replace_autoscaling_group_instances(
                    len(old_members), group.get_propagated_tags()
                )
        except ServiceException:
            if self.preferences.get("AutoRollback") and self.status == "InProgress":
                return "RollbackInProgress"
            return "Failed"
        if old_members:
            group.ec2_backend.terminate_instances([member.instance.id for member in old_members])
        group.instance_states = [
            member for member in group.instance_states if member not in old_members
        ]
        return "Successful"

    def shown(self) -> dict[str, Any]:
        """Return the refresh as DescribeInstanceRefreshes shows it."""
        return {
            "InstanceRefreshId": self.id,
            "AutoScalingGroupName": self.group.name,
            "Status": self.status,
            "Preferences": self.preferences,
            "DesiredConfiguration": self.desired,
        }


class GroupInstance(InstanceState):
    """An instance of a group. It shows the template and version that it was launched with, and has
    them in two tags that EC2 sets (API_Instance)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Noted at the launch: the group's template may change later.
        self._launched_with: dict[str, Any] | None = None
        group = self.auto_scaling_group
        if group is not None and group.ec2_launch_template is not None:
            template = group.ec2_launch_template
            version = str(template.get_version(group.launch_template_version).number)
            self._launched_with = {
                "LaunchTemplateId": template.id,
                "LaunchTemplateName": template.name,
                "Version": version,
            }
            self.instance.add_tags(
                {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": version}
            )

    @property
    def launch_template(self) -> dict[str, Any] | None:
        return self._launched_with


def _present_configuration(group: FakeAutoScalingGroup) -> dict[str, Any] | None:
    """Return the group's configuration for a rollback, or None if it has no launch template."""
    if group.mixed_instances_policy:
        return {"MixedInstancesPolicy": copy.deepcopy(group.mixed_instances_policy)}
    if group.ec2_launch_template is None:
        return None
    return {
        "LaunchTemplate": {
            "LaunchTemplateId": group.ec2_launch_template.id,
            "Version": group.launch_template_version,
        }
    }


def _launch_templates(desired: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the launch templates that a desired configuration names."""
    mixed = (desired.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {})
    templates = [
        desired.get("LaunchTemplate"),
        mixed.get("LaunchTemplateSpecification"),
        *(override.get("LaunchTemplateSpecification") for override in mixed.get("Overrides") or []),
    ]
    return [template for template in templates if template]


def _running_refresh(group: FakeAutoScalingGroup) -> EmulatedRefresh | None:
    return next((refresh for refresh in _refreshes(group) if refresh.status in RUNNING), None)


def _refreshes(group: FakeAutoScalingGroup) -> list[EmulatedRefresh]:
    """Return the group's refreshes, oldest first, in their present states."""
    # moto's groups have no refreshes, so an attribute of the group holds them.
    refreshes: list[EmulatedRefresh] = vars(group).setdefault("refreshes", [])
    for refresh in refreshes:
        refresh.advance()
    return refreshes


@rule
def one_refresh_at_a_time(group: FakeAutoScalingGroup) -> None:
    """A group has one refresh in progress at most."""
    running = _running_refresh(group)
    if running is not None:
        raise ApiError(
            "InstanceRefreshInProgress", f"the instance refresh {running.id} is in progress"
        )


@rule
def why_irreversible(refresh: EmulatedRefresh) -> str | None:
    """Return why the refresh cannot be rolled back, or None: there is no rollback without a desired
    configuration, with version $Latest or $Default, or with an SSM parameter for the AMI."""
    group = refresh.group
    if not refresh.desired:
        return "no desired configuration is specified"
    versions = {
        group.launch_template_version if group.ec2_launch_template else None,
        *(template.get("Version") for template in _launch_templates(refresh.desired)),
    }
    if versions & {"$Latest", "$Default"}:
        return "the launch template's version is $Latest or $Default"
    if group.ec2_launch_template is not None and group.image_id.startswith(ssm_parameters.PREFIX):
        return "the launch template holds an SSM parameter instead of an AMI id"
    return None


@rule
def in_progress(group: FakeAutoScalingGroup) -> EmulatedRefresh:
    """Return the refresh to cancel or to roll back. The call is refused if none is in progress."""
    running = _running_refresh(group)
    if running is None:
        raise ApiError(
            "ActiveInstanceRefreshNotFound", f"no instance refresh of {group.name} is in progress"
        )
    return running


class InstanceRefreshApi(AutoScalingResponse):
    """The handlers."""

    def call_action(self) -> TYPE_RESPONSE:
        """Bring every refresh of the account to its present state before any call."""
        for group in list(self.autoscaling_backend.autoscaling_groups.values()):
            _refreshes(group)
        return super().call_action()  # type: ignore[no-any-return]

    def _group(self) -> FakeAutoScalingGroup:
        """Return the group that the request names
        (https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html).
        """
        name = self._get_param("AutoScalingGroupName")
        group = self.autoscaling_backend.autoscaling_groups.get(name)
        if group is None:
            raise ApiError("ValidationError", f"AutoScalingGroup name not found - '{name}'")
        return group

    def start_instance_refresh(self) -> ActionResult:
        """https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html"""
        group = self._group()
        one_refresh_at_a_time(group)
        desired = self._get_param("DesiredConfiguration")
        refresh = EmulatedRefresh(
            group, desired, self._get_param("Preferences") or {}, _present_configuration(group)
        )
        # A missing template is refused now, before anything is replaced.
        for template in _launch_templates(desired or {}):
            try:
                group.ec2_backend._get_template_from_args(template)
            except ServiceException as error:
                raise ApiError(
                    "ValidationError", f"You must use a valid fully-formed launch template. {error}"
                ) from None
        reason = why_irreversible(refresh) if refresh.preferences.get("AutoRollback") else None
        if reason is not None:
            raise ApiError("ValidationError", f"AutoRollback is not possible: {reason}")
        _refreshes(group).append(refresh)
        return ActionResult({"InstanceRefreshId": refresh.id})

    @rule
    def describe_instance_refreshes(self) -> ActionResult:
        """Refreshes are listed newest first, in pages of 50 or up to 100."""
        refreshes = _refreshes(self._group())[::-1]
        page, next_token = listing.paginate(
            refreshes, self._get_param("MaxRecords") or 50, self._get_param("NextToken"), most=100
        )
        return ActionResult(
            {"InstanceRefreshes": [refresh.shown() for refresh in page], "NextToken": next_token}
        )

    @rule
    def set_instance_health(self) -> ActionResult:
        """An instance that is set to Unhealthy is terminated and replaced; within its group's grace
        period only if the call does not respect that."""
        instance_id, respects_grace = (
            self._get_param("InstanceId"),
            self._get_param("ShouldRespectGracePeriod"),
        )
        for group in self.autoscaling_backend.autoscaling_groups.values():
            for member in [
                state for state in group.instance_states if state.instance.id == instance_id
            ]:
                age = STATE.now() - member.instance.launch_time.replace(tzinfo=datetime.UTC)
                in_grace_period = age.total_seconds() < (group.health_check_grace_period or 0)
                # None, the default, respects the grace period.
                if self._get_param("HealthStatus") == "Unhealthy" and not (
                    in_grace_period and respects_grace is not False
                ):
                    self.autoscaling_backend.notify_terminate_instances([instance_id])
                    group.ec2_backend.terminate_instances([instance_id])
                return ActionResult({})
        raise ApiError(
            "ValidationError",
            f"Instance Id not found - No managed instance found for instance ID {instance_id}",
        )

    def cancel_instance_refresh(self) -> ActionResult:
        """https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CancelInstanceRefresh.html"""
        refresh = in_progress(self._group())
        refresh.move("Cancelled")
        return ActionResult({"InstanceRefreshId": refresh.id})

    def rollback_instance_refresh(self) -> ActionResult:
        """https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RollbackInstanceRefresh.html"""
        refresh = in_progress(self._group())
        reason = why_irreversible(refresh)
        if reason is not None:
            raise ApiError("IrreversibleInstanceRefresh", reason)
        refresh.move("RollbackInProgress")
        return ActionResult({"InstanceRefreshId": refresh.id})
