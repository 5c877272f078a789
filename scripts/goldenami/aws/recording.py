"""A recording of what a process asks of AWS and what AWS answers, and the way back: a call that is
replayed gets the recorded answer and is not sent.

What is kept has no account number, address, name of a person or secret. Ids of resources are
numbered in the order in which they appear, so that those of a replay can take their places.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from goldenami.aws import tags
from goldenami.aws.session import CLIENT_HOOKS, Client
from goldenami.core.records import Record

_ID = re.compile(r"\b([a-z]{1,8})-(?=[0-9a-f]*[0-9])([0-9a-f]{17})\b")
_ACCOUNT, NO_ACCOUNT = re.compile(r"(?<!\d)\d{12}(?!\d)"), "123456789012"
_ADDRESS, NO_ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b"), "192.0.2.1"
_SECRET = re.compile("Material|UserData|BlockData|Password|Secret|Token|Fingerprint|PublicKey$")
LEFT_OUT = "(left out)"
NO_OWNER = "(owner)"


class RecordedCall(Record):
    """One call: where in the run it was made (`label` and `count`, from 1, among the calls of that
    operation there), and what came back: the answer, or the error's code and message."""

    label: str
    service: str
    operation: str
    region: str
    count: int
    request: dict[str, Any]
    answer: dict[str, Any] | None = None
    error: str = ""
    message: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        return self.label, self.service, self.operation, self.region, self.count

    def __str__(self) -> str:
        return f"{self.service}:{self.operation} in {self.region}"


@dataclass
class Recorder:
    """Records the calls of every client that is made while it is `active`. `calls` has those of the
    present label alone; `total` counts all by operation."""

    replayed: Mapping[tuple[str, str, str, str, int], RecordedCall] = field(default_factory=dict)
    label: str = ""
    calls: list[RecordedCall] = field(default_factory=list)
    total: Counter[str] = field(default_factory=Counter)
    _counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    _numbers: dict[str, str] = field(default_factory=dict)
    _kinds: Counter[str] = field(default_factory=Counter)
    _owner: str = field(default_factory=tags.owner)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def replaying(cls, calls: Iterable[RecordedCall]) -> Recorder:
        return cls({call.key: call for call in calls})

    @contextmanager
    def active(self) -> Iterator[None]:
        CLIENT_HOOKS.append(self._hook)
        try:
            yield
        finally:
            CLIENT_HOOKS.remove(self._hook)

    @contextmanager
    def labelled(self, label: str) -> Iterator[None]:
        """Record the block's calls under `label`; the calls before are forgotten."""
        outer, self.label = self.label, label
        self.calls.clear()
        try:
            yield
        finally:
            self.label = outer

    def last_error(self) -> RecordedCall | None:
        """The last call of the present label that AWS refused."""
        return next((call for call in reversed(self.calls) if call.error), None)

    def _hook(self, client: Client, region: str) -> None:
        client.meta.events.register("before-parameter-build", self._asked)
        client.meta.events.register_last("before-call", partial(self._replay, region))
        client.meta.events.register("after-call", partial(self._answered, region))

    def _asked(self, params: Any, context: dict[str, Any], **_: Any) -> None:
        # The context stays with the call to its end; the request that is sent is serialized.
        context[_ASKED] = params

    def _replay(
        self, region: str, model: Any, context: dict[str, Any], **_: Any
    ) -> tuple[Any, Any] | None:
        service, operation = model.service_model.service_name, model.name
        with self._lock:
            place = (self.label, service, operation, region)
            self._counts[place] += 1
            self.total[f"{service}:{operation}"] += 1
            context[_COUNT] = (self.label, self._counts[place])
            call = self.replayed.get((*place, self._counts[place]))
        if call is None:
            return None
        parsed = json.loads(self._live(json.dumps(call.answer or {}, default=str)))
        status = 200
        if call.error:
            parsed, status = {"Error": {"Code": call.error, "Message": call.message}}, 400
        parsed["ResponseMetadata"] = {"HTTPStatusCode": status, "HTTPHeaders": {}}
        return _Status(status), parsed

    def _answered(
        self, region: str, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any
    ) -> None:
        label, count = context[_COUNT]
        error = parsed.get("Error", {})
        answer = {key: value for key, value in parsed.items() if key != "ResponseMetadata"}
        with self._lock:
            call = RecordedCall(
                label=label,
                service=model.service_model.service_name,
                operation=model.name,
                region=region,
                count=count,
                request=self._public(context.get(_ASKED, {})),
                answer=None if error else self._public(answer),
                error=str(error.get("Code", "")),
                message=self._public_text(str(error.get("Message", ""))),
            )
            if label == self.label:
                self.calls.append(call)

    def _public(self, value: Any) -> Any:
        """Return a copy of the parameters or an answer that others may see, as JSON."""
        if isinstance(value, Mapping):
            if value.get("Key") == tags.OWNER:
                return {"Key": tags.OWNER, "Value": NO_OWNER}
            return {
                key: LEFT_OUT if _SECRET.search(str(key)) else self._public(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._public(item) for item in value]
        if isinstance(value, (bytes, bytearray)) or hasattr(value, "read"):
            return LEFT_OUT
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self._public_text(str(value))  # times, too

    def _public_text(self, text: str) -> str:
        text = text.replace(self._owner, NO_OWNER)
        text = _ADDRESS.sub(NO_ADDRESS, _ACCOUNT.sub(NO_ACCOUNT, text))
        return _ID.sub(lambda match: self._number(match[1], match[0]), text)

    def _number(self, kind: str, name: str) -> str:
        if name not in self._numbers:
            self._kinds[kind] += 1
            self._numbers[name] = f"{kind}-{self._kinds[kind]:017x}"
        return self._numbers[name]

    def _live(self, text: str) -> str:
        """Put this run's ids in the places of a recording's numbers."""
        live = {number: name for name, number in self._numbers.items()}
        return _ID.sub(lambda match: live.get(match[0], match[0]), text)


_ASKED, _COUNT = "golden_asked", "golden_count"
"""Keys of a call's context."""


@dataclass(frozen=True)
class _Status:
    """All that botocore reads of the HTTP answer to a call that was not sent."""

    status_code: int
