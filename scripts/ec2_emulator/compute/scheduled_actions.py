"""Execution of the scheduled actions of Auto Scaling groups, which moto only lists.

Actions that are due are carried out when somebody describes groups, up to the emulator's own time.
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
    """Return the time of Auto Scaling in whole minutes."""
    ahead = timedelta(seconds=STATE.settings.schedule_ahead_s)
    return (STATE.now() + ahead).replace(second=0, microsecond=0)


def put(self: AutoScalingBackend, *args: Any, **kwargs: Any) -> FakeScheduledAction:
    """Replaces PutScheduledUpdateGroupAction: the action is due from now on, not for earlier
    moments."""
    action = _moto_put(self, *args, **kwargs)
    vars(action)["done_until"] = _moment()
    return action


def groups(self: AutoScalingBackend, *args: Any, **kwargs: Any) -> list[FakeAutoScalingGroup]:
    """Replaces DescribeAutoScalingGroups: carries out the actions that are due first."""
    due = [
        (moment, position, action)
        for position, action in enumerate(self.scheduled_actions.values())
        if (moment := _last_due(action, vars(action)["done_until"], _moment()))
    ]
    # In the order of time; actions of one moment in the order in which they were put.
    for moment, _, action in sorted(due, key=lambda due_action: due_action[:2]):
        _carry_out(self, action)
        vars(action)["done_until"] = moment
    return _moto_groups(self, *args, **kwargs)


def _last_due(action: FakeScheduledAction, since: datetime, now: datetime) -> datetime | None:
    """Return the last moment after `since` at which the action was due, or None: its StartTime or a
    day of its recurrence, up to EndTime. Several missed moments count once, as the action would
    only repeat itself.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScheduledUpdateGroupAction.html
    """
    starts, ends = _utc(action.start_time), _utc(action.end_time)
    moments = [starts] if starts else []
    if action.recurrence:
        minute, hour, *_, weekdays = action.recurrence.split()
        zone = ZoneInfo(action.time_zone or "UTC")
        newest = min(now, ends or now).astimezone(zone).date()
        # Eight days back: the time of `newest` itself may be still to come.
        for day in (newest - timedelta(days=ago) for ago in range(8)):
            moment = datetime.combine(day, time(int(hour), int(minute)), zone).astimezone(UTC)
            is_within = (not starts or starts <= moment) and (not ends or moment < ends)
            # cron counts Sunday as 0, ISO as 7.
            if is_within and str(day.isoweekday() % 7) in weekdays.split(","):
                moments.append(moment)
    return max((moment for moment in moments if since < moment <= now), default=None)


def _utc(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None


def _carry_out(backend: AutoScalingBackend, action: FakeScheduledAction) -> None:
    """Set the group's new sizes. Without a desired capacity of its own, the action changes the
    group's only if the new bounds exclude it."""
    group = backend.autoscaling_groups.get(action.auto_scaling_group_name)
    if group is None:
        return
    for name in ("min_size", "max_size"):
        if getattr(action, name) is not None:
            setattr(group, name, int(getattr(action, name)))
    requested = (
        group.desired_capacity if action.desired_capacity is None else action.desired_capacity
    )
    capacity = min(max(int(requested or 0), group.min_size or 0), group.max_size or 0)
    if capacity != group.desired_capacity:
        group.set_desired_capacity(capacity)


def update(original_resource: FakeScheduledAction, **others: Any) -> FakeScheduledAction:
    """Replace a changed AWS::AutoScaling::ScheduledAction by an action of the same name."""
    del others["new_resource_name"]
    return FakeScheduledAction.create_from_cloudformation_json(
        original_resource.scheduled_action_name,
        LogicalId=original_resource.scheduled_action_name,
        **others,
    )


def install() -> None:
    """Replace moto's functions for scheduled actions by these."""
    backend: Any = AutoScalingBackend
    backend.put_scheduled_update_group_action, backend.describe_auto_scaling_groups = put, groups
    action: Any = FakeScheduledAction
    action.update_from_cloudformation_json = staticmethod(update)
