"""Decides by the rules of a definition's `watch` section whether a newer version matters. It does
no I/O: offers come from the modules of `sources/`, the day comes from the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from debian.debian_support import Version
from pydantic import Field, field_validator, model_validator

from goldenami.core.records import Lax, Section


class UpdatePolicy(StrEnum):
    """Which newer versions of a component are taken."""

    HOLD = "hold"
    SECURITY = "security"
    BRANCH = "branch"
    NEWEST = "newest"


class UpdateVerdict(StrEnum):
    """The decision about a component's newest version. Only `UPDATE` makes a new lock.

    `BLOCKED`: the parts do not fit together. `FAILED`: the new lock could not be made.
    """

    CURRENT = "current"
    UPDATE = "update"
    HELD = "held"
    YOUNG = "too young"
    REFUSED = "refused"
    BLOCKED = "blocked"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


class Mover(StrEnum):
    """The way by which a newer version of a component gets into the image."""

    NEW_LOCK = "a lock that is made for it"
    NEXT_LOCK = "the next lock, whatever that is made for"
    PERSON = "a person, in the file that names the version"


class UpdateRule(Section):
    """How one component is watched."""

    policy: Lax[UpdatePolicy]
    """which newer versions are taken"""
    minimum_age_days: Annotated[int, Field(ge=0, le=365)] = 0
    """days that others have to find a release's faults"""
    review: date | None = None
    """last day of a hold; a hold needs it, and nothing else has it"""
    reason: str = ""
    """why it is held"""

    @model_validator(mode="after")
    def _a_hold_is_reviewed(self) -> Self:
        if (self.policy is UpdatePolicy.HOLD) != (self.review is not None):
            raise ValueError("a hold needs a `review` date, and only a hold has one")
        return self


def _acting(rule: UpdateRule) -> None:
    if rule.policy is UpdatePolicy.SECURITY:  # a package index names no security updates
        raise ValueError("`security` would never take anything; one of hold, branch, newest")


class Watch(Section):
    """A definition's `watch` section. Without one, these defaults hold."""

    driver: UpdateRule = UpdateRule(policy=UpdatePolicy.BRANCH)
    """NVIDIA's driver"""
    kernel: UpdateRule = UpdateRule(policy=UpdatePolicy.BRANCH)
    """the kernel"""
    cuda: UpdateRule = UpdateRule(policy=UpdatePolicy.BRANCH)
    """CUDA"""
    packages: UpdateRule = UpdateRule(policy=UpdatePolicy.SECURITY)
    """all other packages"""
    frameworks: dict[str, UpdateRule] = Field(default_factory=dict)
    """by name; what is not named stays in its branch"""
    python_packages: UpdateRule = UpdateRule(policy=UpdatePolicy.BRANCH)
    """the packages of `python_packages`"""

    def framework(self, name: str) -> UpdateRule:
        return self.frameworks.get(name, UpdateRule(policy=UpdatePolicy.BRANCH))

    @field_validator("frameworks", "python_packages")
    @classmethod
    def _policies_act(
        cls,
        value: UpdateRule | dict[str, UpdateRule],
    ) -> UpdateRule | dict[str, UpdateRule]:
        for rule in value.values() if isinstance(value, dict) else [value]:
            _acting(rule)
        return value


@dataclass(frozen=True)
class VersionOffer:
    """One version that a source has. `released` is None if no source states it. `refusal` is why it
    can't be taken, or "". `mends` are the known vulnerabilities that it fixes."""

    version: str
    branch: str
    source: str
    security: bool = False
    released: date | None = None
    refusal: str = ""
    mends: Sequence[str] = ()


@dataclass(frozen=True)
class Judgement:
    """A rule's decision about the offers: the version in question, the verdict, its reason, and how
    the component would get there."""

    available: str
    verdict: UpdateVerdict
    reason: str = ""
    source: str = ""
    mends: Sequence[str] = ()
    mover: Mover = Mover.NEW_LOCK

    @classmethod
    def of(cls, offer: VersionOffer, verdict: UpdateVerdict, reason: str) -> Judgement:
        return cls(offer.version, verdict, reason, offer.source, offer.mends)


VersionOrder = Callable[[str], Any]
"""Sort key of versions. `Version` is Debian's order, in which 2.0~rc1 < 2.0 < 1:1.0."""


@dataclass(frozen=True)
class LockedVersion:
    """The version of a component in the lock, its branch, and the order of its versions."""

    version: str
    branch: str
    order: VersionOrder = Version

    def newer(self, offers: Iterable[VersionOffer]) -> list[VersionOffer]:
        """Return the offers that are newer than the locked version, newest first."""
        locked_key = self.order(self.version)
        newer_offers = [offer for offer in offers if self.order(offer.version) > locked_key]
        return sorted(newer_offers, key=lambda offer: self.order(offer.version), reverse=True)


def judge(
    rule: UpdateRule, locked: LockedVersion, offers: Sequence[VersionOffer], today: date
) -> Judgement:
    """Return the verdict on `offers` for a component that is in the lock as `locked`."""
    newer = locked.newer(offers)
    if not newer:
        return Judgement(locked.version, UpdateVerdict.CURRENT)
    newest = newer[0]
    if rule.policy is UpdatePolicy.HOLD:
        return Judgement.of(newest, UpdateVerdict.HELD, rule.reason or "the definition holds it")
    matching = [offer for offer in newer if _wants(rule.policy, offer, locked.branch)]
    if not matching:
        return Judgement.of(newest, UpdateVerdict.HELD, _unwanted(rule.policy, newest))
    possible = [offer for offer in matching if not offer.refusal]
    if not possible:
        return Judgement.of(matching[0], UpdateVerdict.REFUSED, matching[0].refusal)
    old = [offer for offer in possible if _old_enough(rule, offer, today)]
    if not old:
        return Judgement.of(possible[0], UpdateVerdict.YOUNG, _age(rule, possible[0], today))
    # The reason tells why newer versions than the taken one were refused.
    newer = matching[: matching.index(old[0])]
    refusals = [f"{offer.version}: {offer.refusal}" for offer in newer if offer.refusal]
    return Judgement.of(old[0], UpdateVerdict.UPDATE, "; ".join(refusals))


def _wants(policy: UpdatePolicy, offer: VersionOffer, branch: str) -> bool:
    if policy is UpdatePolicy.NEWEST:
        return True
    return offer.branch == branch and (offer.security or policy is UpdatePolicy.BRANCH)


def _unwanted(policy: UpdatePolicy, offer: VersionOffer) -> str:
    if policy is UpdatePolicy.BRANCH:
        return f"of branch {offer.branch}"
    return f"no security update: it comes from {offer.source}"


def _old_enough(rule: UpdateRule, offer: VersionOffer, today: date) -> bool:
    if rule.minimum_age_days == 0:
        return True
    return offer.released is not None and today - offer.released >= timedelta(
        days=rule.minimum_age_days
    )


def _age(rule: UpdateRule, offer: VersionOffer, today: date) -> str:
    if offer.released is None:
        return f"no source says when it came out, and it has to be {rule.minimum_age_days} days old"
    return f"{(today - offer.released).days} days old, has to be {rule.minimum_age_days}"


def overdue(component: str, rule: UpdateRule, today: date) -> str:
    """Return a complaint about a hold whose review date is past, or ""."""
    if rule.review is None or today <= rule.review:
        return ""
    complaint = f"the hold on {component} was to be reviewed by {rule.review}"
    if rule.reason:
        complaint += f" ({rule.reason})"
    return complaint
