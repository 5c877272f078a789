"""Answers that come late, are out of date or do not come: the one place where `late_rules` are
applied."""

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
from ec2_emulator.rules import EC2_API, ApiError, rule
from ec2_emulator.state import STATE, ApiCall

CONSISTENCY = "https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html"
THROTTLING = "https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html"
FAULTS = "https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/regional-services.html"

_READS = ("Describe", "Get", "List")
_REMEMBERED, _SERVICES = 4, frozenset({"ec2", "ssm", "autoscaling"})
"""Answers kept for a request, and of which services: those whose reads AWS does not promise to be
up to date."""
_ID = re.compile(rb"\b(?:ami|snap|lt|i|sg|vol|key)-[0-9a-f]{17}\b")
_POLL_S = 0.05

Environ = dict[str, Any]


@dataclass
class Memory:
    """What was answered, written, made and removed, and when (monotonic seconds)."""

    answers: dict[tuple[str, ...], list[tuple[float, Response]]] = field(default_factory=dict)
    writes: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    made: dict[bytes, float] = field(default_factory=dict)
    removed: dict[tuple[str, str], float] = field(default_factory=dict)
    met: Counter[LateRule] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        for each in (self.answers, self.writes, self.made, self.removed, self.met):
            each.clear()

    def note(self, call: ApiCall, body: bytes, answer: Response, at: float) -> None:
        """Remember an answer of moto's to a call that was asked at `at`."""
        with self.lock:
            if is_read(call):
                if call.service in _SERVICES:
                    kept = self.answers.setdefault(_request(call, body), [])
                    kept.append((at, answer))
                    del kept[:-_REMEMBERED]
            elif answer.status_code < 300:
                self.writes.setdefault((call.service, call.region), []).append(at)
                self.removed[call.name, call.region] = at
                self.made.update(
                    dict.fromkeys(set(_ID.findall(answer.get_data())) - set(_ID.findall(body)), at)
                )


MEMORY = Memory()


def is_read(call: ApiCall) -> bool:
    """Whether the call changes nothing."""
    return call.action.startswith(_READS)


def _request(call: ApiCall, body: bytes) -> tuple[str, ...]:
    return (call.key, call.name, call.region, body.decode("latin-1"))


@rule(CONSISTENCY)
def stale_answer(call: ApiCall, body: bytes, seconds: float, now: float) -> Response | None:
    """A read after a write may answer as before it, and the next one may be up to date.

    It is the answer that the same request got; None where none of them was right until `seconds`
    ago. EC2 says so of itself, and SSM and Auto Scaling promise nothing else; DynamoDB's consistent
    reads are never stale.
    """
    with MEMORY.lock:
        writes = MEMORY.writes.get((call.service, call.region), [])
        for at, answer in reversed(MEMORY.answers.get(_request(call, body), [])):
            after = bisect.bisect_right(writes, at)
            if after < len(writes):
                return answer if writes[after] >= now - seconds else None
    return None


@rule(CONSISTENCY)
def unknown_yet(body: bytes, seconds: float, now: float) -> dict[bytes, bytes]:
    """What was made a moment ago may not be found yet by its id, neither by a read nor by a change.

    Ids in the request that are too new, each with one of the same kind that does not exist.
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
"""Calls that are refused while what used their target seems to be there: by whose end, in what
words."""


@rule(EC2_API + "errors-overview.html")
def still_in_use(call: ApiCall, seconds: float, now: float) -> None:
    """What an AMI or an instance used may be refused as in use for a while after that one went."""
    if call.name in IN_USE:
        ended, code = IN_USE[call.name]
        if now - MEMORY.removed.get((ended, call.region), now - seconds - 1) < seconds:
            raise ApiError(code, f"what {ended.partition(':')[2]} removed seems to be there still")


_TOO_MANY = {
    "ec2": ("RequestLimitExceeded", 503),
    "autoscaling": ("Throttling", 400),
    "sts": ("Throttling", 400),
    "ebs": ("RequestThrottledException", 400),
    "s3": ("SlowDown", 503),
}


@rule(THROTTLING)
def throttled(call: ApiCall) -> ApiError:
    """A call beyond the account's rate in a region is refused, and so may be its repetition."""
    code, status = _TOO_MANY.get(call.service, ("ThrottlingException", 400))
    return ApiError(code, "Request limit exceeded.", status)


@rule(EC2_API + "errors-overview.html#api-error-codes-table-server")
def unavailable(call: ApiCall) -> ApiError:
    """A region that is out answers every call with a server error."""
    return ApiError(
        "Unavailable" if call.service == "ec2" else "ServiceUnavailable",
        f"{call.region} is unavailable",
        503,
    )


@rule(FAULTS)
def hang(seconds: float) -> None:
    """A region may be impaired while others are not: its calls are not answered, and then the
    connection breaks."""
    rules, ends = STATE.settings.late, time.monotonic() + seconds
    while STATE.settings.late is rules and time.monotonic() < ends:
        time.sleep(_POLL_S)
    raise ConnectionResetError("a hanging region")


def _met(call: ApiCall) -> Iterator[LateRule]:
    """The rules that the call meets; the same seed and order of calls meet the same ones."""
    settings, number = STATE.settings, len(STATE.calls)
    for index, each in enumerate(settings.late):
        dice = random.Random(f"{settings.late_seed} {index} {number}")  # noqa: S311 - no secret
        fits = any(fnmatchcase(call.name, name) for name in each.calls) and any(
            fnmatchcase(call.region, name) for name in each.regions
        )
        with MEMORY.lock:
            if fits and dice.random() < each.share and not 0 < each.times <= MEMORY.met[each]:
                MEMORY.met[each] += 1
                yield each


def _refuse(call: ApiCall, modes: dict[LateMode, LateRule]) -> None:
    """Raise what the call meets instead of an answer."""
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
    """The answer to a call: moto's (`answer`), or what the rules of the settings make of it."""
    modes = {each.mode: each for each in _met(call)}
    call.met = tuple(modes)
    _refuse(call, modes)
    now = time.monotonic()
    if (
        LateMode.STALE in modes
        and is_read(call)
        and (old := stale_answer(call, body, modes[LateMode.STALE].seconds, now))
    ):
        return old
    if LateMode.NOT_FOUND in modes and (
        hidden := unknown_yet(body, modes[LateMode.NOT_FOUND].seconds, now)
    ):
        return _without(hidden, environ, body, answer)
    given = answer(environ)
    MEMORY.note(call, body, given, now)
    if LateMode.LOST in modes:
        raise ConnectionResetError("after the call")
    return given


def _without(
    hidden: dict[bytes, bytes],
    environ: Environ,
    body: bytes,
    answer: Callable[[Environ], Response],
) -> Response:
    """The answer where some ids do not exist: AWS's own refusal, or an empty list, with the ids put
    back."""
    for name, other in hidden.items():
        body = body.replace(name, other)
    given = answer({**environ, "wsgi.input": io.BytesIO(body)})
    text = given.get_data()
    for name, other in hidden.items():
        text = text.replace(other, name)
    return Response(text, given.status, given.headers)
