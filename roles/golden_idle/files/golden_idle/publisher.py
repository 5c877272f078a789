"""Messages to AWS, in a thread of their own: a network that hangs must not cost a sample.

Metrics of the last hour wait for the network. Scale-in protection follows the machine's state at
once. It is set again from time to time, since a person or a deployment may have changed it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from golden_idle import account, metrics
from golden_idle.account import AccountError
from golden_idle.metrics import Minute

KEPT = 60
"""Minutes of metrics that are kept while AWS cannot be reached."""
TRY_S = 60
"""Seconds after which a machine that publishes no metrics checks its protection."""
AGAIN_S = 900
"""Seconds after which protection is set again and the group is looked up again."""


class Publisher(threading.Thread):
    """The thread that sends. A failure is logged once by `log`, and is in `trouble` until it
    ends."""

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
        """Ask for the instance's protection from scale-in, or for its end."""
        changed, self._wanted = self._wanted != wanted, wanted
        if changed or self._clock() - self._woken_at >= TRY_S:
            self._woken_at = self._clock()
            self._wake.set()

    def state(self) -> dict[str, object]:
        """Return the state for people: the group, whether the instance is protected, minutes that
        wait, and failures."""
        return {
            "instance": self._instance,
            "group": self._group,
            "protected": bool(self._group) and self._set,
            "waiting_minutes": len(self._minutes),
            "trouble": sorted(self._trouble.values()),
        }

    def stop(self) -> None:
        """Try once more to send what waits, and end."""
        self._end.set()
        self._wake.set()
        self.join(account.READ_S)

    # --- its own thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Work whenever woken, by a minute of metrics or a change, and every TRY_S seconds, also
        after a failure."""
        while not self._end.is_set():
            self._wake.wait(TRY_S)
            self._wake.clear()
            if self._try("account", self._identify):
                self._try("group", self._look_up_group)
                self._try("protection", self._set_protection)
                self._try("metrics", self._send)

    def _try(self, subject: str, work: Callable[[], None]) -> bool:
        """Do some work and return whether it succeeded."""
        try:
            work()
        # Any exception is only logged: if this thread ended, all protection would end.
        except Exception as error:
            text = str(error) if isinstance(error, AccountError) else f"{subject}: {error!r}"
            if self._trouble.get(subject) != text:
                self._log(text)
            self._trouble = {**self._trouble, subject: text}
            return False
        if subject in self._trouble:
            self._log(f"{subject}: works again")
            self._trouble = {key: text for key, text in self._trouble.items() if key != subject}
        return True

    def _identify(self) -> None:
        self._instance = account.connect().instance.id

    def _look_up_group(self) -> None:
        if self._protects and self._clock() - self._looked_at >= AGAIN_S:
            self._group, self._looked_at = account.connect().group(), self._clock()

    def _set_protection(self) -> None:
        due = self._set != self._wanted or self._clock() - self._set_at >= AGAIN_S
        if self._protects and self._group and due:
            # The agent's thread may change it during the call.
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
            # The agent's thread may have pushed this minute out meanwhile: the queue has a limit.
            if self._minutes and self._minutes[0][0] == at:
                self._minutes.popleft()
