"""Waiting for something to come true, on a clock that stands still unless somebody waits."""

from __future__ import annotations

import itertools

import pytest
from botocore.exceptions import ClientError
from goldenami.aws import calls
from goldenami.core import wait
from goldenami.core.terminal import progress


class Clock:
    """A monotonic clock that only waiting moves; `pauses` are the waits."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wait, "time", clock)
    return clock


def test_only_none_means_not_yet(clock: Clock) -> None:
    for value in (0, "", False, ()):
        answers = iter([None, None, value])
        assert wait.wait_until(answers.__next__, 10.0, 1.0) == value
    assert clock.pauses == [1.0, 1.0] * 4
    assert wait.wait_until(lambda: "there", 0.0, 1.0) == "there"
    assert wait.wait_until(lambda: None, 0.0, 1.0) is None
    assert clock.pauses == [1.0, 1.0] * 4, "no time at all is one look"


def test_limit_gives_none_after_a_last_look(clock: Clock) -> None:
    seen: list[float] = []

    def look() -> str | None:
        seen.append(clock.now)
        return None

    assert wait.wait_until(look, 2.5, 1.0) is None
    assert seen == [100.0, 101.0, 102.0, 102.5]


def test_time_that_the_condition_takes_counts(clock: Clock) -> None:
    def look() -> str | None:
        clock.now += 4.0
        return None

    assert wait.wait_until(look, 10.0, 1.0) is None
    assert clock.now == 114.0, "the third look began at the limit"


def test_pauses_end_in_the_last_of_them_or_never(clock: Clock) -> None:
    assert wait.wait_until(lambda: None, 10.0, [0.5, 1.0, 3.0]) is None
    assert clock.pauses == [0.5, 1.0, 3.0, 3.0, 2.5]
    clock.pauses.clear()
    assert wait.wait_until(lambda: None, 6.0, itertools.count(1.0)) is None
    assert clock.pauses == [1.0, 2.0, 3.0]


def test_growing_pauses() -> None:
    assert list(itertools.islice(wait.growing(0.25, 1.5, 0.8), 5)) == [
        0.25,
        0.375,
        0.5625,
        0.8,
        0.8,
    ]


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "DescribeThing")


def test_aws_is_asked_again_where_a_refusal_passes(clock: Clock) -> None:
    answers = iter([None, "there"])
    refusals = [refused("InvalidThing.NotFound")]

    def ask() -> str | None:
        if refusals:
            raise refusals.pop()
        return next(answers)

    assert calls.wait_for(ask, *calls.NOT_YET, limit_s=10.0) == "there"
    assert clock.pauses == [0.5, 1]


def test_aws_refusal_that_stays_is_raised_at_the_limit_and_another_at_once(clock: Clock) -> None:
    def ask() -> None:
        raise refused("InvalidThing.NotFound")

    with pytest.raises(ClientError, match="NotFound"):
        calls.wait_for(ask, *calls.NOT_YET, limit_s=3.0, pauses=2.0)
    assert clock.pauses == [2.0, 1.0]
    with pytest.raises(ClientError, match="NotFound"):
        calls.wait_for(ask, ".InUse")
    with pytest.raises(ClientError, match="NotFound"):
        calls.wait_while(ask, lambda error: isinstance(error, ValueError), limit_s=3.0, pauses=2.0)
    assert clock.pauses == [2.0, 1.0], "what does not pass is not asked again"
    assert calls.wait_for(lambda: None, limit_s=1.0) is None


def test_a_long_wait_is_told_with_what_is_waited_for(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At most once in a minute, and by the refusal where nobody named the wait."""
    monkeypatch.setattr(progress, "time", clock)
    calls.wait_for(lambda: None, limit_s=150.0, pauses=10.0, what="ami-1 is pending")
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == [
        "ami-1 is pending, for 1:00 so far",
        "ami-1 is pending, for 2:00 so far",
    ]

    def ask() -> None:
        raise refused("InvalidThing.NotFound")

    with pytest.raises(ClientError):
        calls.wait_for(ask, *calls.NOT_YET, limit_s=70.0, pauses=10.0)
    assert "InvalidThing.NotFound" in capsys.readouterr().err
    calls.wait_for(lambda: None, limit_s=150.0, pauses=10.0)
    assert capsys.readouterr().err == "", "what nobody named is told by its owner"


def test_aws_refusal_counts_only_if_it_was_the_last_answer(clock: Clock) -> None:
    answers = iter([refused("Thing.NotFound"), None, None])

    def ask() -> None:
        if error := next(answers):
            raise error

    assert calls.wait_for(ask, ".NotFound", limit_s=2.0, pauses=1.0) is None
