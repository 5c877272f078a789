"""golden-idle over recordings of real machines: whoever works is never stopped, and what nobody
uses ends."""

from __future__ import annotations

import pytest
from golden_idle.settings import Action
from support.idle import recording
from support.idle.lives import LIVES
from support.idle.recording import Life
from support.idle.traces import settings

POWEROFF = settings(action=Action.POWEROFF, target="arn:aws:sns:us-east-1:123456789012:ops")
KEPT = ("spins-outside", "lab-container-forgotten")
"""Nobody needs these, and they are kept: a thread that computes, and a page whose server gives no
word, look the same."""


@pytest.mark.parametrize(
    "life", [life for life in LIVES if life.needed], ids=lambda life: life.name
)
def test_who_works_is_not_stopped(life: Life) -> None:
    assert recording.ended(life, POWEROFF, hours=3) is None


@pytest.mark.parametrize(
    "life", [life for life in LIVES if not life.needed], ids=lambda life: life.name
)
def test_a_machine_that_nobody_uses_ends_within_two_hours(life: Life) -> None:
    ended = recording.ended(life, POWEROFF, hours=2)
    assert (ended is None) == (life.name in KEPT), ended
