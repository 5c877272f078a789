"""The decision of golden-idle: hours of machines' lives, and what holds for any."""

from __future__ import annotations

import math
from typing import Any

import pytest
from golden_idle.decide import (
    BOOT_S,
    MISSING_S,
    PERIOD_S,
    Decision,
    Hold,
    Sample,
    decide,
    is_free,
)
from golden_idle.settings import Action
from golden_idle.steps import RETRY_S, Progress, Stage, Step, next_step
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.idle import traces
from support.idle.traces import Trace, quiet, settings

SHORT = settings(window_minutes=15)
BUSY: tuple[dict[str, Any], ...] = (
    {"gpu_s": 2.6},
    {"gpu_s": math.nan},
    {"lost": "it fell off the bus"},
    {"cpu_s": 22.6},
    {"cpu_s": math.nan},
    {"burst": 5.1},
    {"disks_mb": 15.1},
    {"network_mb": 1.3},
    {"used": ("a sign",)},
)


def window(begin: float = 30.0, minutes: float = 15) -> list[Sample]:
    """Samples that cover so many minutes and show nothing."""
    return [quiet(begin + step * PERIOD_S) for step in range(int(minutes * 60) // PERIOD_S + 1)]


@pytest.mark.parametrize("trace", traces.TRACES, ids=lambda trace: trace.name)
def test_no_decision_over_a_trace_is_wrong(trace: Trace) -> None:
    assert traces.wrong(trace, traces.ours, every=30) == 0


def test_reasons_are_words_with_figures() -> None:
    samples = window()
    assert decide([], 0.0, SHORT).reason == "no sample yet"
    assert decide(samples[:31], 330.0, SHORT).reason == "watched for 5 of 15 minutes"
    said = "9.7 GPU seconds in 15 minutes, line 2.5"
    samples[60] = quiet(630.0, gpu_s=9.7)
    assert decide(samples, 930.0, SHORT) == Decision(
        False, 630.0, f"{said}, 5 minutes ago; idle after 15 quiet ones"
    )
    assert decide(samples[:61], 630.0, SHORT) == Decision(False, None, f"{said}, now")
    samples[60] = quiet(630.0, burst=12.0)
    assert decide(samples[:61], 630.0, SHORT).reason == "12 CPU seconds in a minute, now"
    samples[60] = quiet(630.0, lost="it fell off the bus")
    assert (
        decide(samples[:61], 630.0, SHORT).reason
        == "a GPU cannot be asked: it fell off the bus, now"
    )
    assert (
        decide(samples, 930.0, SHORT, [Hold(4530.0, "ann", "a demo")]).reason
        == "held for 60 more minutes by ann: a demo"
    )


def test_small_uses_add_up_and_old_ones_go() -> None:
    samples = [quiet(30.0 + step * PERIOD_S, cpu_s=0.3) for step in range(91)]
    assert decide(samples, 930.0, SHORT).reason == "27 CPU seconds in 15 minutes, line 18.8, now"
    for step in range(91):
        samples.append(quiet(940.0 + step * PERIOD_S))
    assert decide(samples, 1840.0, SHORT).idle


def test_a_timer_s_work_counts_while_it_runs() -> None:
    samples = [*window(), quiet(940.0, timer="backup.service")]
    assert decide(samples, 940.0, SHORT).reason == "backup.service runs, now"
    assert decide([*samples, quiet(950.0)], 950.0, SHORT).idle


def test_a_hold_ends() -> None:
    assert not decide(window(), 930.0, SHORT, [Hold(930.1, "ann", "a demo")]).idle
    assert decide(window(), 930.0, SHORT, [Hold(930.0, "ann", "a demo")]).idle


# --- what holds for any life ---

CHANGED = [*BUSY, {"used": ()}]
"""What differs in a sample: each line crossed, and none."""
EDGES = st.integers(0, 6)
"""Where the window begins."""
lives = st.tuples(
    st.integers(85, 95),
    st.dictionaries(EDGES | st.integers(0, 94), st.sampled_from(CHANGED), max_size=2),
    st.dictionaries(st.integers(1, 94), st.sampled_from([MISSING_S, MISSING_S + 1]), max_size=2),
)
"""A number of samples around a window of 15 minutes, what differs, and longer gaps before some."""


@hypothesis_settings(max_examples=200, deadline=None)
@given(lives, st.integers(0, 10**9))
def test_idle_means_that_all_of_the_window_is_known_and_quiet(
    life: tuple[int, dict[int, dict[str, Any]], dict[int, float]],
    began: int,
) -> None:
    """Whatever the clock says when the machine starts."""
    count, used, gaps = life
    samples, at = list[Sample](), float(began)
    for index in range(count):
        at += gaps.get(index, PERIOD_S)
        samples.append(quiet(at, **used.get(index, {})))
    inside = [index for index, sample in enumerate(samples) if sample.at > at - 900]
    is_covered = samples[0].at <= at - 900
    is_quiet = not any(used.get(index, CHANGED[-1]) in BUSY for index in inside)
    is_known = all(gaps.get(index, 0) <= MISSING_S for index in inside)
    assert decide(samples, at, SHORT).idle == (is_covered and is_quiet and is_known)


# --- what follows from a decision ---

IDLE, NEEDED = Decision(True, 30.0, "quiet"), Decision(False, None, "busy")
POWEROFF = settings(
    action=Action.POWEROFF, target="arn:aws:sns:us-east-1:123456789012:ops", grace_minutes=5
)


def test_notice_then_grace_then_the_action() -> None:
    progress = Progress()
    assert next_step(progress, IDLE, POWEROFF, 1000.0) is Step.NOTIFY
    told = progress.to(Stage.NOTIFIED, 1000.0)
    assert next_step(told, IDLE, POWEROFF, 1299.0) is Step.NOTHING
    assert next_step(told, IDLE, POWEROFF, 1300.0) is Step.ACT
    assert next_step(told.to(Stage.DONE, 1300.0), IDLE, POWEROFF, 9999.0) is Step.NOTHING


def test_without_an_action_nobody_is_told() -> None:
    assert next_step(Progress(), IDLE, settings(), 1000.0) is Step.ACT


@pytest.mark.parametrize("stage", Stage)
def test_a_busy_machine_is_protected_whatever_was_announced(stage: Stage) -> None:
    assert next_step(Progress(stage, 0.0), NEEDED, POWEROFF, 9999.0) is Step.PROTECT


@pytest.mark.parametrize(
    ("stage", "again"), [(Stage.BUSY, Step.NOTIFY), (Stage.NOTIFIED, Step.ACT)]
)
def test_what_failed_is_tried_again_later(stage: Stage, again: Step) -> None:
    """And a machine of which nobody could be told is not stopped."""
    failed = Progress(stage, 0.0).failed(1000.0)
    assert next_step(failed, IDLE, POWEROFF, 1000.0 + RETRY_S - 1) is Step.NOTHING
    assert next_step(failed, IDLE, POWEROFF, 1000.0 + RETRY_S) is again


@pytest.mark.parametrize("used", BUSY, ids=str)
def test_a_machine_is_free_until_somebody_uses_it(used: dict[str, Any]) -> None:
    """Also one that has just started, but for what a boot itself uses."""
    samples, later = window()[:6], window(begin=BOOT_S)
    assert is_free(samples, 80.0, SHORT) and not is_free([], 80.0, SHORT)
    samples[3] = quiet(samples[3].at, **used)
    of_boot = {"cpu_s", "burst", "disks_mb", "network_mb"}
    assert is_free(samples, 80.0, SHORT) is bool(used.keys() & of_boot)
    later[3] = quiet(later[3].at, **used)
    assert not is_free(later, BOOT_S + 900, SHORT)
    assert not is_free(window(), 930.0, SHORT, [Hold(931.0, "ann", "demo")])
