"""What is told to AWS beside the samples, in a thread of its own: a network that hangs must not
cost a sample.

Metrics of the last hour wait for the network. Scale-in protection follows the machine's state at
once, and is set again from time to time, since a person or a deployment may have changed it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from golden_idle import account, metrics
from golden_idle.account import AccountError
from golden_idle.metrics import Minute

KEPT = 60
"""Minutes of metrics."""
TRY_S = 60
"""Seconds after which a machine that publishes no metrics looks after its protection."""
AGAIN_S = 900
"""Seconds after which protection is set again and the group is looked up again."""


class Publisher(threading.Thread):
    """Sends on its own; what cannot be sent is said once, by `log`, and is in `trouble`."""

    def __init__(
        self, *, protects: bool, clock: Callable[[], float], log: Callable[[str], None]
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self._protects, self._clock, self._log = protects, clock, log
        self._minutes: deque[tuple[float, Minute]] = deque(maxlen=KEPT)
        self._wake, self._end = threading.Event(), threading.Event()
        self._instance = self._group = ""
        self._looked_at = self._set_at = self._woken_at = float("-inf")
        self._wanted, self._set = True, False
        self._trouble: dict[str, str] = {}

    # --- called by the agent's own thread ---------------------------------------------------------

    def publish(self, at: float, minute: Minute) -> None:
        """Send a minute's metrics, which ended at `at` (seconds since 1970)."""
        self._minutes.append((at, minute))
        self._wake.set()

    def protect(self, wanted: bool) -> None:
        """Want the instance protected from scale-in, or not."""
        changed, self._wanted = self._wanted != wanted, wanted
        if changed or self._clock() - self._woken_at >= TRY_S:
            self._woken_at = self._clock()
            self._wake.set()

    def state(self) -> dict[str, object]:
        """For people: the group, whether it is protected, minutes that wait, what goes wrong."""
        return {
            "instance": self._instance,
            "group": self._group,
            "protected": bool(self._group) and self._set,
            "waiting_minutes": len(self._minutes),
            "trouble": sorted(self._trouble.values()),
        }

    def stop(self) -> None:
        """Send what there is once more, and end."""
        self._end.set()
        self._wake.set()
        self.join(account.READ_S)

    # --- its own thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Work whenever woken: each minute of metrics wakes it, and so does a change; and again
        where that failed."""
        while not self._end.is_set():
            self._wake.wait(TRY_S)
            self._wake.clear()
            if self._try("account", self._identify):
                self._try("group", self._look_up_group)
                self._try("protection", self._set_protection)
                self._try("metrics", self._send)

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        """Whether it worked. Any exception is only said: a thread that ended would end all
        protection."""
        try:
            work()
        except Exception as error:
            text = str(error) if isinstance(error, AccountError) else f"{what}: {error!r}"
            if self._trouble.get(what) != text:
                self._log(text)
            self._trouble = {**self._trouble, what: text}
            return False
        if what in self._trouble:
            self._log(f"{what}: works again")
            self._trouble = {key: text for key, text in self._trouble.items() if key != what}
        return True

    def _identify(self) -> None:
        self._instance = account.connect().instance.id

    def _look_up_group(self) -> None:
        if self._protects and self._clock() - self._looked_at >= AGAIN_S:
            self._group, self._looked_at = account.connect().group(), self._clock()

    def _set_protection(self) -> None:
        due = self._set != self._wanted or self._clock() - self._set_at >= AGAIN_S
        if self._protects and self._group and due:
            wanted = self._wanted
            account.connect().protect(self._group, wanted)
            self._set, self._set_at = wanted, self._clock()

    def _send(self) -> None:
        dimensions = account.connect().instance.dimensions
        if self._group:
            dimensions["AutoScalingGroupName"] = self._group
        while self._minutes:
            at, minute = self._minutes[0]
            try:
                account.connect().put(metrics.data(minute, at, dimensions))
            except AccountError as error:
                if not error.never:
                    raise
                self._log(f"a minute of metrics is dropped: {error}")
            if self._minutes and self._minutes[0][0] == at:
                self._minutes.popleft()
