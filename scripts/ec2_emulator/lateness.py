"""The only place where `late_rules` are applied: answers that are late, out of date or missing."""

from __future__ import annotations

import bisect
import io
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from werkzeug import Response

from ec2_emulator.late_rules import LateMode, LateRule
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.state import STATE, ApiCall

_READS = ("Describe", "Get", "List")
_REMEMBERED, _SERVICES = 4, frozenset({"ec2", "ssm", "autoscaling"})
"""The number of answers kept for a request, and the services whose answers are kept: AWS does not
promise that their reads are up to date."""
_ID = re.compile(rb"\b(?:ami|snap|lt|i|sg|vol|key)-[0-9a-f]{17}\b")
_POLL_S = 0.05

Environ = dict[str, Any]


@dataclass
class Memory:
    """The answers, writes, made ids and removals so far, each with its time (monotonic seconds),
    and how often each rule applied."""

    answers: dict[tuple[str, ...], list[tuple[float, Response]]] = field(default_factory=dict)
    writes: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    made: dict[bytes, float] = field(default_factory=dict)
    removed: dict[tuple[str, str], float] = field(default_factory=dict)
    met: Counter[LateRule] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        for memories in (self.answers, self.writes, self.made, self.removed, self.met):
            memories.clear()

    def note(self, call: ApiCall, body: bytes, answer: Response, began: float) -> None:
        """Remember moto's answer to a call that began at `began` (monotonic seconds)."""
        with self.lock:
            if is_read(call):
                if call.service in _SERVICES:
                    kept_answers = self.answers.setdefault(_request(call, body), [])
                    kept_answers.append((began, answer))
                    del kept_answers[:-_REMEMBERED]
            elif answer.status_code < 300:
                self.writes.setdefault((call.service, call.region), []).append(began)
                self.removed[call.name, call.region] = began
                # Ids that the answer has and the request has not are new.
                self.made.update(
                    dict.fromkeys(
                        set(_ID.findall(answer.get_data())) - set(_ID.findall(body)), began
                    )
                )


MEMORY = Memory()


def is_read(call: ApiCall) -> bool:
    """Return whether the call changes nothing."""
    return call.action.startswith(_READS)


def _request(call: ApiCall, body: bytes) -> tuple[str, ...]:
    return (call.key, call.name, call.region, body.decode("latin-1"))


@rule
def stale_answer(call: ApiCall, body: bytes, seconds: float, now: float) -> Response | None:
    """A read after a write may answer as before the write, and the next one may be up to date.

    Return the last answer to the same request from before a write of the last `seconds`, or None if
    there is none. EC2's page says so of EC2, and SSM and Auto Scaling promise nothing else;
    DynamoDB's consistent reads are never stale.
    """
    with MEMORY.lock:
        writes = MEMORY.writes.get((call.service, call.region), [])
        for answered, answer in reversed(MEMORY.answers.get(_request(call, body), [])):
            # The first write after this answer is the one that made it stale.
            next_write = bisect.bisect_right(writes, answered)
            if next_write < len(writes):
                return answer if writes[next_write] >= now - seconds else None
    return None


@rule
def unknown_yet(body: bytes, seconds: float, now: float) -> dict[bytes, bytes]:
    """A resource that was made a moment ago may not be found by its id, neither by a read nor by a
    change.

    Return the ids in the request that are too new, each with an id of the same kind that does not
    exist.
    """
    with MEMORY.lock:
        return {
            name: name.partition(b"-")[0] + b"-" + b"0" * 17
            for name in _ID.findall(body)
            if MEMORY.made.get(name, now - seconds - 1) > now - seconds
        }


IN_USE = {
    "ec2:DeleteSnapshot": ("ec2:DeregisterImage", "InvalidSnapshot.InUse"),
    "ec2:DeleteSecurityGroup": ("ec2:TerminateInstances", "DependencyViolation"),
}
"""Calls that are refused while their target seems to be in use, each with the call that removed the
user and the error code."""


@rule
def still_in_use(call: ApiCall, seconds: float, now: float) -> None:
    """A resource may be refused as in use for a while after the AMI or instance that used it was
    removed."""
    if call.name in IN_USE:
        removal, code = IN_USE[call.name]
        if now - MEMORY.removed.get((removal, call.region), now - seconds - 1) < seconds:
            raise ApiError(
                code, f"what {removal.partition(':')[2]} removed seems to be there still"
            )


_TOO_MANY = {
    "ec2": ("RequestLimitExceeded", 503),
    **dict.fromkeys(("autoscaling", "cloudformation", "iam", "sts"), ("Throttling", 400)),
    "ebs": ("RequestThrottledException", 400),
    "s3": ("SlowDown", 503),
}


@rule
def throttled(call: ApiCall) -> ApiError:
    """Return the refusal of a call beyond the account's rate in a region; a retry may be refused,
    too."""
    code, status = _TOO_MANY.get(call.service, ("ThrottlingException", 400))
    return ApiError(code, "Request limit exceeded.", status)


@rule
def unavailable(call: ApiCall) -> ApiError:
    """Return the server error with which an unavailable region answers every call."""
    return ApiError(
        "Unavailable" if call.service == "ec2" else "ServiceUnavailable",
        f"{call.region} is unavailable",
        503,
    )


@rule
def hang(seconds: float) -> None:
    """Wait, then break the connection: an impaired region does not answer, while others do."""
    rules, ends = STATE.settings.late, time.monotonic() + seconds
    # New settings have another tuple, so a change of the settings ends the wait.
    while STATE.settings.late is rules and time.monotonic() < ends:
        time.sleep(_POLL_S)
    raise ConnectionResetError("a hanging region")


def _applying_rules(call: ApiCall) -> Iterator[LateRule]:
    """Yield the rules that apply to the call. The same seed and order of calls give the same
    rules."""
    settings, number = STATE.settings, len(STATE.calls)
    for index, late_rule in enumerate(settings.late):
        dice = random.Random(f"{settings.late_seed} {index} {number}")  # noqa: S311 - no secret
        fits = any(fnmatchcase(call.name, pattern) for pattern in late_rule.calls) and any(
            fnmatchcase(call.region, pattern) for pattern in late_rule.regions
        )
        with MEMORY.lock:
            if (
                fits
                and dice.random() < late_rule.share
                and not 0 < late_rule.times <= MEMORY.met[late_rule]
            ):
                MEMORY.met[late_rule] += 1
                yield late_rule


def _refuse(call: ApiCall, modes: dict[LateMode, LateRule]) -> None:
    """Delay the call, or raise what it gets instead of an answer, before it is handled."""
    if LateMode.HANGING in modes:
        hang(modes[LateMode.HANGING].seconds)
    if LateMode.CUT in modes:
        raise ConnectionResetError("before the call")
    if LateMode.OUT in modes:
        raise unavailable(call)
    if LateMode.THROTTLED in modes:
        raise throttled(call)
    if LateMode.REFUSED in modes:
        refused = modes[LateMode.REFUSED]
        raise ApiError(refused.code, "The call is refused.", refused.status)
    if LateMode.IN_USE in modes:
        still_in_use(call, modes[LateMode.IN_USE].seconds, time.monotonic())
    if LateMode.SLOW in modes:
        time.sleep(modes[LateMode.SLOW].seconds)


def apply(
    call: ApiCall, environ: Environ, body: bytes, answer: Callable[[Environ], Response]
) -> Response:
    """Return the answer to a call: that of `answer` (moto's), or what the settings' rules make of
    it."""
    modes = {late_rule.mode: late_rule for late_rule in _applying_rules(call)}
    call.met = tuple(modes)
    _refuse(call, modes)
    now = time.monotonic()
    if (
        LateMode.STALE in modes
        and is_read(call)
        and (stale := stale_answer(call, body, modes[LateMode.STALE].seconds, now))
    ):
        return stale
    if LateMode.NOT_FOUND in modes and (
        hidden := unknown_yet(body, modes[LateMode.NOT_FOUND].seconds, now)
    ):
        return _without(hidden, environ, body, answer)
    response = answer(environ)
    MEMORY.note(call, body, response, now)
    if LateMode.LOST in modes:
        raise ConnectionResetError("after the call")
    return response


def _without(
    hidden: dict[bytes, bytes],
    environ: Environ,
    body: bytes,
    answer: Callable[[Environ], Response],
) -> Response:
    """Return the answer as if the hidden ids did not exist: AWS's own refusal or an empty list,
    with the ids put back."""
    for name, absent in hidden.items():
        body = body.replace(name, absent)
    response = answer({**environ, "wsgi.input": io.BytesIO(body)})
    text = response.get_data()
    for name, absent in hidden.items():
        text = text.replace(absent, name)
    return Response(text, response.status, response.headers)
