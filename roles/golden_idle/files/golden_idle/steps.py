"""The step that follows from a decision: a notice, a grace period, and only then the action, each
right after a fresh sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from golden_idle.decide import Decision
from golden_idle.settings import Action, Settings

RETRY_S = 600
"""Seconds after which a failed step is tried again."""


class Stage(StrEnum):
    """How far the steps of an idle machine have got."""

    BUSY = "busy"
    NOTIFIED = "notified"
    DONE = "done"


class Step(StrEnum):
    """The step to take now."""

    NOTHING = "nothing"
    PROTECT = "protect"
    NOTIFY = "notify"
    ACT = "act"


@dataclass(frozen=True)
class Progress:
    """The stage, and since when. Nothing is tried again before `not_before`. Times are seconds of
    CLOCK_BOOTTIME."""

    stage: Stage = Stage.BUSY
    since: float = 0.0
    not_before: float = 0.0

    def to(self, stage: Stage, now: float) -> Progress:
        """Return the progress at the next stage."""
        return Progress(stage, now)

    def failed(self, now: float) -> Progress:
        """Return the same stage, whose step is tried again later."""
        return replace(self, not_before=now + RETRY_S)


def next_step(progress: Progress, decision: Decision, settings: Settings, now: float) -> Step:
    """Return the step to take. A busy machine is protected, whatever its stage was."""
    if not decision.idle:
        return Step.PROTECT
    if now < progress.not_before or progress.stage is Stage.DONE:
        return Step.NOTHING
    if progress.stage is Stage.BUSY and settings.action is not Action.NONE:
        return Step.NOTIFY
    if progress.stage is Stage.NOTIFIED and now - progress.since < settings.grace_s:
        return Step.NOTHING
    return Step.ACT
