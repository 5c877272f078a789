"""The section `cluster` of a definition, for machines that run before somebody needs them."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from goldenami.core.records import Lax, Section
from goldenami.model.operation import working_hours
from goldenami.model.operation.working_hours import WorkingHours

MOST_ACTIONS = 125
"""Limit of a group's scheduled actions (Amazon EC2 Auto Scaling, "Quotas")."""

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Monitoring(StrEnum):
    """How often EC2 sends an instance's metrics: each minute, for a price, or each fifth."""

    DETAILED = "detailed"
    BASIC = "basic"


class GroupedBy(StrEnum):
    """What the machines of one group have in common."""

    FAMILY = "family"
    TYPE = "type"


class MachinesAhead(Section):
    """Machines of one group that run, or are ready to, before somebody needs them."""

    working_hours: Annotated[int, Field(ge=0, le=1000)] = 0
    """machines at least, during `hours`"""
    spare: Annotated[int, Field(ge=0, le=100)] = 0
    """free machines at any time, as long as the group may grow"""
    stopped: Annotated[int, Field(ge=0, le=100)] = 0
    """machines of a warm pool: started once, then stopped"""


class ClusterSection(Section):
    """Machines that the groups of `golden cluster` run in advance. No part of it shapes the
    image."""

    by: Lax[GroupedBy] = GroupedBy.FAMILY
    """a group for each family of `hardware`, or for each type that `machines` names"""
    hours: list[str] = Field(default_factory=list)
    """when people work, such as `Mon-Fri 08:00-19:00 Europe/Berlin`"""
    holidays: list[date] = Field(default_factory=list)
    """days without these hours, such as 2026-12-25"""
    machines: Annotated[dict[str, MachinesAhead], Field(min_length=1)]
    """by family, or by type, such as g6.xlarge"""

    @field_validator("hours")
    @classmethod
    def _hours(cls, value: list[str]) -> list[str]:
        for clash in working_hours.clashes([working_hours.parse(text) for text in value]):
            raise ValueError(clash)
        return value

    @field_validator("holidays", mode="before")
    @classmethod
    def _days(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        for day in value:
            if not _DAY.fullmatch(str(day)):
                raise ValueError(
                    f"`{day}` is not a day of one year; write each year's, such as 2026-12-25"
                )
        return [date.fromisoformat(str(day)) for day in value]

    @model_validator(mode="after")
    def _starts_something(self) -> Self:
        counts = [machines.working_hours for machines in self.machines.values()]
        if self.hours and not any(counts):
            raise ValueError(
                "`hours` start nothing: say `working_hours: 1` of a group in `machines`"
            )
        if any(counts) and not self.hours:
            raise ValueError(
                "`working_hours` without `hours`: say when, such as "
                "`Mon-Fri 08:00-19:00 Europe/Berlin`"
            )
        # For each line of hours, a group has one action at their end and at most one start for each
        # period between holidays (see WorkingHours.periods).
        most = len(self.hours) * (len(set(self.holidays)) + 2)
        if most > MOST_ACTIONS:
            raise ValueError(
                f"{len(self.holidays)} holidays need {most} scheduled actions, and a "
                f"group takes {MOST_ACTIONS}; leave past and far ones out"
            )
        return self

    @cached_property
    def calendar(self) -> tuple[WorkingHours, ...]:
        return tuple(map(working_hours.parse, self.hours))

    @property
    def open_share(self) -> float:
        """The hours' part of a week, from 0 to 1. Holidays count as other days."""
        return sum(hours.minutes_a_week for hours in self.calendar) / (7 * working_hours.DAY_MIN)
