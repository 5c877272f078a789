"""Scheduled actions of Auto Scaling groups, carried out: moto lists them and does nothing by them.

What is due is done when somebody asks for groups, up to the emulator's own moment.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, FakeScheduledAction

from ec2_emulator.state import STATE

_moto_groups = AutoScalingBackend.describe_auto_scaling_groups
_moto_put = AutoScalingBackend.put_scheduled_update_group_action


def _moment() -> datetime:
    ahead = timedelta(seconds=STATE.settings.schedule_ahead_s)
    return (STATE.now() + ahead).replace(second=0, microsecond=0)


def put(self: AutoScalingBackend, *args: Any, **kwargs: Any) -> FakeScheduledAction:
    """PutScheduledUpdateGroupAction; the action counts from now on."""
    made = _moto_put(self, *args, **kwargs)
    vars(made)["done_until"] = _moment()
    return made


def groups(self: AutoScalingBackend, *args: Any, **kwargs: Any) -> list[FakeAutoScalingGroup]:
    """DescribeAutoScalingGroups, after what was due by then."""
    due = [
        (moment, number, action)
        for number, action in enumerate(self.scheduled_actions.values())
        if (moment := _last(action, vars(action)["done_until"], _moment()))
    ]
    for moment, _, action in sorted(due, key=lambda each: each[:2]):
        _carry_out(self, action)
        vars(action)["done_until"] = moment
    return _moto_groups(self, *args, **kwargs)


def _last(action: FakeScheduledAction, since: datetime, now: datetime) -> datetime | None:
    """The last moment at which it was to act after `since`: its StartTime, or a day of its
    recurrence, up to EndTime. What it did before, it does again.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScheduledUpdateGroupAction.html
    """
    starts, ends = _utc(action.start_time), _utc(action.end_time)
    moments = [starts] if starts else []
    if action.recurrence:
        minute, hour, *_, weekdays = action.recurrence.split()
        zone = ZoneInfo(action.time_zone or "UTC")
        newest = min(now, ends or now).astimezone(zone).date()
        for day in (newest - timedelta(days=ago) for ago in range(8)):
            moment = datetime.combine(day, time(int(hour), int(minute)), zone).astimezone(UTC)
            is_within = (not starts or starts <= moment) and (not ends or moment < ends)
            if is_within and str(day.isoweekday() % 7) in weekdays.split(","):
                moments.append(moment)
    return max((moment for moment in moments if since < moment <= now), default=None)


def _utc(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None


def _carry_out(backend: AutoScalingBackend, action: FakeScheduledAction) -> None:
    """New bounds move the desired capacity only where it would be out of them."""
    group = backend.autoscaling_groups.get(action.auto_scaling_group_name)
    if group is None:
        return
    for name in ("min_size", "max_size"):
        if getattr(action, name) is not None:
            setattr(group, name, int(getattr(action, name)))
    asked = group.desired_capacity if action.desired_capacity is None else action.desired_capacity
    wanted = min(max(int(asked or 0), group.min_size or 0), group.max_size or 0)
    if wanted != group.desired_capacity:
        group.set_desired_capacity(wanted)


def update(original_resource: FakeScheduledAction, **others: Any) -> FakeScheduledAction:
    """AWS::AutoScaling::ScheduledAction changed: an action of the same name in its place."""
    del others["new_resource_name"]
    return FakeScheduledAction.create_from_cloudformation_json(
        original_resource.scheduled_action_name,
        LogicalId=original_resource.scheduled_action_name,
        **others,
    )


def install() -> None:
    """Have moto's groups move."""
    backend: Any = AutoScalingBackend
    backend.put_scheduled_update_group_action, backend.describe_auto_scaling_groups = put, groups
    action: Any = FakeScheduledAction
    action.update_from_cloudformation_json = staticmethod(update)
