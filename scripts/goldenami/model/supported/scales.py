"""Scales by which a build is measured: how hard it is, and how bad a vulnerability."""

from __future__ import annotations

from enum import StrEnum


class HardeningLevel(StrEnum):
    """Levels of ANSSI's guide BP-028. Each includes the rules of the levels before it."""

    MINIMAL = "minimal"
    INTERMEDIARY = "intermediary"
    ENHANCED = "enhanced"

    @property
    def within(self) -> tuple[HardeningLevel, ...]:
        levels = tuple(HardeningLevel)
        return levels[: levels.index(self) + 1]


class Rating(StrEnum):
    """Severity in the words of CVSS. Distributions rate few vulnerabilities, so `unknown` is
    common."""

    UNKNOWN = "unknown"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    def at_least(self, other: Rating) -> bool:
        """Whether it is as severe as `other`; never, if it is unknown."""
        order = list(Rating)
        return self is not Rating.UNKNOWN and order.index(self) >= order.index(other)
