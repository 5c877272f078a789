"""Scales by which a build is measured: how hard it is, and how bad a vulnerability."""

from __future__ import annotations

from enum import StrEnum


class HardeningLevel(StrEnum):
    """Levels of ANSSI's guide BP-028, each with the rules of those before it."""

    MINIMAL = "minimal"
    INTERMEDIARY = "intermediary"
    ENHANCED = "enhanced"

    @property
    def within(self) -> tuple[HardeningLevel, ...]:
        levels = tuple(HardeningLevel)
        return levels[: levels.index(self) + 1]


class Rating(StrEnum):
    """How bad one is, in the words of CVSS; distributions rate few, so `unknown` is common."""

    UNKNOWN = "unknown"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    def at_least(self, other: Rating) -> bool:
        """What nobody has rated never is."""
        order = list(Rating)
        return self is not Rating.UNKNOWN and order.index(self) >= order.index(other)
