"""Scheduled actions of Auto Scaling groups, carried out: moto lists them and does nothing by them.

What is due is done when somebody asks for groups, up to the emulator's own moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, FakeScheduledAction

from ec2_emulator.state import STATE

_MINUTE = timedelta(minutes=1)
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
    actions = list(self.scheduled_actions.values())
    due = [(moment, number) for number, action in enumerate(actions) for moment in _due(action)]
    for _, number in sorted(due):
        _carry_out(self, actions[number])
    for action in actions:
        vars(action)["done_until"] = _moment()
    return _moto_groups(self, *args, **kwargs)


def _due(action: FakeScheduledAction) -> Iterator[datetime]:
    """Moments at which it acts: its StartTime, then the minutes of its recurrence, up to EndTime.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScheduledUpdateGroupAction.html
    """
    starts, ends = _utc(action.start_time), _utc(action.end_time)
    moment: datetime = vars(action)["done_until"]
    while (moment := moment + _MINUTE) <= _moment():
        is_within = (starts is None or starts <= moment) and (ends is None or moment < ends)
        if moment == starts or (is_within and _recurs(action, moment)):
            yield moment


def _utc(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None


def _recurs(action: FakeScheduledAction, moment: datetime) -> bool:
    """Whether a minute is one of the cron expression's, in the action's time zone."""
    if not action.recurrence:
        return False
    local = moment.astimezone(ZoneInfo(action.time_zone or "UTC"))
    values = (local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
    return all(_has(field, value)
               for field, value in zip(action.recurrence.split(), values, strict=True))


def _has(field: str, value: int) -> bool:
    """Whether `*`, or a list of numbers and ranges, has a value."""
    for part in field.split(","):
        first, _, last = part.partition("-")
        if part == "*" or int(first) <= value <= int(last or first):
            return True
    return False


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
        LogicalId=original_resource.scheduled_action_name, **others)


def install() -> None:
    """Have moto's groups move."""
    backend: Any = AutoScalingBackend
    backend.put_scheduled_update_group_action, backend.describe_auto_scaling_groups = put, groups
    action: Any = FakeScheduledAction
    action.update_from_cloudformation_json = staticmethod(update)
