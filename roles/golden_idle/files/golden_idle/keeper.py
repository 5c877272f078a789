"""What follows from an end that is announced: people and jobs are told, and copies made.

A thread of its own: neither the metadata service nor AWS may cost a sample. Times are seconds of
CLOCK_BOOTTIME.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from golden_keep import state

from golden_idle import account, copies, endings, jobs, notice, owner
from golden_idle.account import AccountError
from golden_idle.copies import Copies
from golden_idle.endings import Ending, Kind
from golden_idle.settings import Settings

MEMORY = Path("run/golden-idle/endings.json")
LOGIN = Path("run/motd.d/40-golden-keep")
POLL_S, POLL_AT_END_S = 5.0, 0.5
"""AWS advises to look for a Spot notice every 5 seconds ("Spot Instance interruption notices")."""
SPOT_S, LATE_S = 120, 30
"""Seconds from a Spot notice to the end, and what is hoped for where the clock says it is over."""
JOBS_S, NEAR_S = 600, 3600
"""Seconds before an end from which jobs are told, and copiers."""
LEFT_S, OVER_S = 5, 10
"""Seconds before an end in which people are told what is left, and after it: it has not come."""
ASK_S, GROUP_S = 1800, 30
"""Seconds until EC2 is asked again about a capacity block, which may be extended, and a group that
did not answer."""
LAST_S = 90
"""Seconds for the copies of a shutdown."""
SAFE = "All that lies in ~/keep is safe."


@dataclass(frozen=True)
class Coming:
    """An end, and by when copies have to be made (None if nobody knows)."""

    ending: Ending
    until: float | None

    def within(self, seconds: float, now: float) -> bool:
        """Return whether no more than so many seconds are left."""
        return self.until is not None and self.until - now <= seconds

    def is_urgent(self, now: float) -> bool:
        """Return whether jobs have to end now."""
        return self.ending.kind in (Kind.SPOT, Kind.SCALE_IN) or self.within(JOBS_S, now)


class Keeper(threading.Thread):
    """The thread. `log` prints a line."""

    def __init__(
        self, root: Path, settings: Settings, speed: float, log: Callable[[str], None]
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._root, self._settings, self._log = root, settings, log
        self._pause_s = max(POLL_AT_END_S, POLL_S / speed)
        self._copies, self._hooks = Copies(root, speed), Hooks(log)
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._announced: list[Ending] = []
        self._own: Coming | None = None
        self._own_since, self._own_reason = 0.0, ""
        self._block_asked, self._block_end = float("-inf"), ""
        self._quiet_since: float | None = None
        # For an agent that is started again: what copiers were told, and what was done.
        self._told, self._memory = _read(root / state.END), _read(root / MEMORY)
        self._shown = ""
        (root / jobs.FOLDER).mkdir(parents=True, exist_ok=True)
        # As /tmp: everybody may register a job, and nobody may remove another's.
        (root / jobs.FOLDER).chmod(0o1777)

    # --- called by the agent's own thread ---------------------------------------------------------

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        self._stopped.set()

    def stays(self) -> None:
        """Take back the end that `unsafe` announced."""
        with self._lock:
            self._own = None

    def unsafe(self) -> str:
        """Announce the end of an idle machine, and return what has to be saved first, or ""."""
        with self._lock:
            if self._settings.keep and self._own is None:
                self._own = Coming(Ending(Kind.IDLE, "This machine is idle, and ends"), None)
                self._own_since, self._own_reason = state.now(), "~/keep is looked at"
            return self._own_reason

    # --- the thread -------------------------------------------------------------------------------

    def run(self) -> None:
        """Look, until the agent ends."""
        if self._settings.keep:
            copies.prepare()
        pause_s = 0.0
        while not self._stopped.wait(pause_s):
            pause_s = self._look(state.now())

    def _look(self, now: float) -> float:
        """Do what is due, and return the seconds until the next look."""
        # What was announced stays so while nobody answers.
        with suppress(OSError, HTTPException, ValueError):
            self._announced = list(self._ask(now))
        coming = self._next(now)
        self._tell_copiers(coming, now)
        is_urgent = coming is not None and coming.is_urgent(now)
        if self._settings.keep:
            self._copies.start(now, at_end=is_urgent)
        if coming and is_urgent:
            self._lead(coming, now)
        is_news = coming is not None and coming.ending.kind is not Kind.IDLE
        if coming and is_news and self._is_first(coming, "announced"):
            self._tell_people([f"{coming.ending.text}."])
        with self._lock:
            if self._own:
                self._own_reason = "; ".join(self._copies.unsafe(self._own_since))
        self._tell_logins(coming)
        return POLL_AT_END_S if is_urgent else self._pause_s

    def _ask(self, now: float) -> Iterator[Ending]:
        yield from endings.announced()
        if endings.in_block():
            if now - self._block_asked >= ASK_S:
                self._block_asked = now
                with suppress(AccountError):
                    self._block_end = account.connect().block_end()
            if self._block_end:
                yield endings.at_time(
                    Kind.CAPACITY_BLOCK, "EC2 ends this capacity block", self._block_end
                )

    def _next(self, now: float) -> Coming | None:
        """Return the end that comes first."""
        keys = {ending.key for ending in self._announced}
        self._memory = {key: known for key, known in self._memory.items() if key in keys}
        found = [Coming(ending, self._until(ending, now)) for ending in self._announced]
        if own := self._own:
            found.append(own)
        found = [each for each in found if not each.within(-OVER_S, now)]
        order = list(Kind)
        return min(
            found,
            key=lambda each: (each.until or float("inf"), order.index(each.ending.kind)),
            default=None,
        )

    def _until(self, ending: Ending, now: float) -> float | None:
        known: dict[str, float] = self._memory.setdefault(ending.key, {"seen": now})
        if ending.at is None and ending.kind is not Kind.SPOT:
            return known.get("until")
        until = now + (ending.at or float("inf")) - time.time()
        if ending.kind is Kind.SPOT:  # whatever the clock says
            if until <= known["seen"]:
                until = known["seen"] + LATE_S
            until = min(until, known["seen"] + SPOT_S)
        # A clock that is adjusted a little makes no other end.
        if abs(known.get("until", float("-inf")) - until) > LEFT_S:
            known["until"] = until
        return known["until"]

    def _lead(self, coming: Coming, now: float) -> None:
        """Lead the machine to its end: jobs first, and the group that waits for it last."""
        running = jobs.running(self._root)
        for job in sorted(running.difference(self._memory[coming.ending.key])):
            jobs.tell(job)
            # Then: an agent that is killed here tells it twice, not never.
            self._is_first(coming, job)
            self._log(f"told of the end: process {job.partition('-')[0]}")
        if running:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
            self._copies.hurry()
        left = [f"Jobs that have not ended: {len(running)}."] if running else []
        if self._settings.keep:
            left += self._copies.unsafe(self._quiet_since or now)
        is_done = not left or coming.within(LEFT_S, now)
        if coming.ending.kind is Kind.SCALE_IN:
            known = self._memory[coming.ending.key]
            self._hooks.answer(known, is_done=is_done, is_copying=not running, now=now)
        if is_done and self._is_first(coming, "closed"):
            self._tell_people(left or [SAFE])

    def _tell_copiers(self, coming: Coming | None, now: float) -> None:
        told = {}
        if coming and (coming.until is None or coming.within(NEAR_S, now)):
            ending = coming.ending
            told = {"kind": ending.kind, "text": ending.text, "until": coming.until}
        if told != self._told:
            self._told = told
            self._put(state.END, told)
            self._quiet_since = None
            self._copies.hurry()

    def _tell_people(self, lines: list[str]) -> None:
        self._log(" ".join(lines))
        notice.tell_terminals(self._root, "\n".join(lines))
        if self._settings.target:
            # A thread, as it may last as long as the machine.
            threading.Thread(target=self._notify, args=(lines,), daemon=True).start()

    def _notify(self, lines: list[str]) -> None:
        try:
            connection = account.connect()
            subject = f"{connection.instance.id}: {lines[0]}".encode("ascii", "replace").decode()
            owners = owner.of_machine(self._root)
            connection.notify(self._settings.target, subject, "\n".join(lines), owners)
        except AccountError as error:
            self._log(str(error))

    def _tell_logins(self, coming: Coming | None) -> None:
        lines = [f"{coming.ending.text}."] if coming else []
        if self._settings.keep:
            lines += self._copies.unsafe(float("-inf")) or [SAFE]
        if (text := "\n".join(lines)) != self._shown:
            self._shown = text
            notice.tell_logins(self._root / LOGIN, text)

    def _is_first(self, coming: Coming, what: str) -> bool:
        known = self._memory[coming.ending.key]
        if what in known:
            return False
        known[what] = True
        self._put(MEMORY, self._memory)
        return True

    def _put(self, name: Path, value: dict[str, Any]) -> None:
        try:
            state.write(self._root / name, value)
        except OSError as error:  # a full disk stops nothing
            self._log(str(error))


class Hooks:
    """The lifecycle hooks of the group that ends this machine, which wait for its copies."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._group, self._waits = "", dict[str, float]()
        self._not_before = float("-inf")

    def answer(self, known: dict[str, Any], *, is_done: bool, is_copying: bool, now: float) -> None:
        """Tell the group to go on, or to wait longer; `known` has until when it waits."""
        if now < self._not_before or "released" in known:
            return
        try:
            connection = account.connect()
            if not self._group:
                self._group = connection.group()
                self._waits = connection.hooks(self._group) if self._group else {}
            if not self._waits:
                return
            wait_s = min(self._waits.values())
            known.setdefault("until", known["seen"] + wait_s - POLL_S)
            if is_done or (is_copying and known["until"] - now < wait_s / 2):
                for hook in self._waits:
                    connection.answer_hook(self._group, hook, done=is_done)
                known.update({"released": True} if is_done else {"until": now + wait_s})
        except AccountError as error:
            self._not_before = now + GROUP_S
            self._log(str(error))


def last_copies(root: Path) -> None:
    """Make the copies of a machine that shuts down, within the time that is left."""
    told = _read(root / state.END)
    told["until"] = min(state.now() + LAST_S, told.get("until") or float("inf"))
    state.write(
        root / state.END, {"kind": Kind.SHUTDOWN, "text": "This machine shuts down", **told}
    )
    copies.last(root)


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}
