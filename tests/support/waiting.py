"""Waiting for what another process does: without a limit a test that hangs would take its whole
tier along."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from goldenami.core.wait import wait_until

LIMIT_S = 300.0
"""Far more than any wait takes; it says nothing about how fast something has to be."""
POLL_S = 0.02

T = TypeVar("T")


def until(
    what: str, condition: Callable[[], T], *, limit_s: float = LIMIT_S, poll_s: float = POLL_S
) -> T:
    """The first answer of `condition` that is true; fails with `what` was waited for after
    `limit_s` seconds."""
    found = wait_until(lambda: condition() or None, limit_s, poll_s)
    assert found is not None, f"waited {limit_s:.0f} s in vain for {what}"
    return found
