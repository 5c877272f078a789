"""The decision of golden-idle: hours of machines' lives, and what holds for any."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from golden_idle.decide import MISSING_S, PERIOD_S, Decision, Hold, Sample, decide
from golden_idle.settings import Action
from golden_idle.steps import RETRY_S, Progress, Stage, Step, next_step
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.idle import traces
from support.idle.traces import Trace, quiet, settings

SHORT = settings(window_minutes=15)
BUSY: tuple[dict[str, Any], ...] = (
    {"gpus": (0.0, 3.1)}, {"gpus": (math.nan,)}, {"lost": "it fell off the bus"}, {"cores": 0.31}, {"cores": math.nan},
    {"disk_mb_s": 4.1}, {"network_mb_s": 0.21}, {"typed": True},
)


def window(begin: float = 30.0, minutes: float = 15) -> list[Sample]:
    """Samples that cover so many minutes and show nothing."""
    return [quiet(begin + step * PERIOD_S) for step in range(int(minutes * 60) // PERIOD_S + 1)]


@pytest.mark.parametrize("trace", traces.TRACES, ids=lambda trace: trace.name)
def test_no_decision_over_a_trace_is_wrong(trace: Trace) -> None:
    assert traces.wrong(trace, traces.ours, every=30) == 0


def test_the_average_that_others_take_is_wrong_over_most() -> None:
    """So the traces tell a good rule from a bad one."""
    assert sum(traces.wrong(trace, traces.average, every=30) > 0 for trace in traces.TRACES) >= 10


def test_a_quiet_window_is_idle_and_says_since_when() -> None:
    found = decide(window(), 930.0, SHORT)
    assert found == Decision(True, 30.0, "every sample of 15 minutes is below every line")


@pytest.mark.parametrize("used", BUSY, ids=str)
@pytest.mark.parametrize("index", [1, 45, 90])
def test_one_sample_above_one_line_is_busy(used: dict[str, Any], index: int) -> None:
    samples = window()
    samples[index] = replace(samples[index], **used)
    assert not decide(samples, 930.0, SHORT).idle


@pytest.mark.parametrize("used", [{"gpus": (3.0,)}, {"cores": 0.3}, {"disk_mb_s": 4.0}, {"network_mb_s": 0.2}], ids=str)
def test_a_sample_on_its_line_is_idle(used: dict[str, Any]) -> None:
    assert decide([replace(sample, **used) for sample in window()], 930.0, SHORT).idle


def test_reasons_are_words_with_figures() -> None:
    samples = window()
    assert decide([], 0.0, SHORT).reason == "no sample yet"
    assert decide(samples[:31], 330.0, SHORT).reason == "watched for 5 of 15 minutes"
    samples[60] = replace(samples[60], gpus=(0.0, 97.0))
    assert decide(samples, 930.0, SHORT) == Decision(
        False, 630.0, "GPU 1 at 97 %, line 3, 5 minutes ago; idle after 15 quiet ones")
    assert decide(samples[:61], 630.0, SHORT) == Decision(False, None, "GPU 1 at 97 %, line 3, now")
    samples[60] = replace(samples[60], lost="it fell off the bus", gpus=())
    assert decide(samples[:61], 630.0, SHORT).reason == "a GPU cannot be asked: it fell off the bus, now"
    assert decide(samples, 930.0, SHORT, [Hold(4530.0, "ann", "a demo")]).reason == \
        "held for 60 more minutes by ann: a demo"


def test_a_hold_ends() -> None:
    assert not decide(window(), 930.0, SHORT, [Hold(930.1, "ann", "a demo")]).idle
    assert decide(window(), 930.0, SHORT, [Hold(930.0, "ann", "a demo")]).idle


@pytest.mark.parametrize("gone", [range(40, 43), range(1, 91), range(88, 91)])
def test_what_nobody_saw_is_busy(gone: range) -> None:
    samples = [sample for index, sample in enumerate(window()) if index not in gone]
    found = decide(samples, 930.0 + (0.1 if gone.stop == 91 else 0), SHORT)
    assert not found.idle and "nothing is known of" in found.reason


def test_time_that_runs_backwards_is_busy() -> None:
    samples = window()
    samples[50] = replace(samples[50], at=samples[50].at - 15)  # five seconds before the one that came first
    assert not decide(samples, 930.0, SHORT).idle


# --- what holds for any life ------------------------------------------------------------------------------------------

lives = st.lists(st.builds(
    lambda gap, used: (gap, used), st.sampled_from([PERIOD_S, PERIOD_S, PERIOD_S, MISSING_S, MISSING_S + 1]),
    st.sampled_from([{}, {}, {}, {}, *BUSY])), max_size=120)


def life(steps: list[tuple[float, dict[str, Any]]], begin: float = 30.0) -> list[Sample]:
    found = []
    for gap, used in steps:
        begin += gap
        found.append(replace(quiet(begin), **used))
    return found


@hypothesis_settings(max_examples=60, deadline=None)
@given(lives)
def test_idle_means_that_all_of_the_window_is_known_and_quiet(steps: list[tuple[float, dict[str, Any]]]) -> None:
    samples = life(steps)
    now = samples[-1].at if samples else 30.0
    inside = [(gap, used) for (gap, used), sample in zip(steps, samples, strict=True) if sample.at > now - 900]
    covered = bool(samples) and samples[0].at <= now - 900
    assert decide(samples, now, SHORT).idle == (
        covered and not any(used for _, used in inside) and all(gap <= MISSING_S for gap, _ in inside))


@hypothesis_settings(max_examples=40, deadline=None)
@given(lives, st.integers(0, 10**9))
def test_the_time_of_day_is_of_no_matter(steps: list[tuple[float, dict[str, Any]]], later: int) -> None:
    here, there = life(steps), life(steps, 30.0 + later)
    now = here[-1].at if here else 30.0
    assert decide(here, now, SHORT).idle == decide(there, now + later, SHORT).idle


@hypothesis_settings(max_examples=40, deadline=None)
@given(lives, st.floats(0, 200))
def test_a_higher_line_makes_nothing_busy(steps: list[tuple[float, dict[str, Any]]], more: float) -> None:
    samples = life(steps)
    now = samples[-1].at if samples else 30.0
    higher = replace(SHORT, gpu_percent=3 + more, cores=0.3 + more, disk_mb_s=4 + more, network_mb_s=0.2 + more)
    assert decide(samples, now, higher).idle >= decide(samples, now, SHORT).idle


# --- what follows from a decision -------------------------------------------------------------------------------------

IDLE, NEEDED = Decision(True, 30.0, "quiet"), Decision(False, None, "busy")
POWEROFF = settings(action=Action.POWEROFF, target="arn:aws:sns:us-east-1:123456789012:ops", grace_minutes=5)


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


@pytest.mark.parametrize(("stage", "again"), [(Stage.BUSY, Step.NOTIFY), (Stage.NOTIFIED, Step.ACT)])
def test_what_failed_is_tried_again_later(stage: Stage, again: Step) -> None:
    """And a machine of which nobody could be told is not stopped."""
    failed = Progress(stage, 0.0).failed(1000.0)
    assert next_step(failed, IDLE, POWEROFF, 1000.0 + RETRY_S - 1) is Step.NOTHING
    assert next_step(failed, IDLE, POWEROFF, 1000.0 + RETRY_S) is again
