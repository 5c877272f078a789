"""The agent: it samples every ten seconds, decides, publishes each minute, and takes the step that
follows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from golden_keep.state import write

from golden_idle import (
    account,
    evidence,
    holds,
    keeper,
    machine,
    metrics,
    notice,
    owner,
    settings,
)
from golden_idle.account import AccountError
from golden_idle.decide import MISSING_S, PERIOD_S, Decision, Hold, Sample, decide, is_free
from golden_idle.metrics import Figure, Minute
from golden_idle.nvml import Gpu, Nvml, NvmlError
from golden_idle.publisher import Publisher
from golden_idle.settings import Action
from golden_idle.steps import Progress, Stage, Step, next_step

STATE = Path("run/golden-idle/state.json")
ENDED = "goldenami:ended"
"""The tag that tells a hub why the machine has ended."""
MINUTE_S = 60


class Clock:
    """CLOCK_BOOTTIME, `speed` times as fast: 1 except in a rehearsal."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def now(self) -> float:
        """Return the seconds since the machine started, including those of a suspend."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) * self.speed


def log(text: str) -> None:
    """Print a line, which goes to the journal."""
    print(text, flush=True)


def tell_systemd(text: str) -> None:
    """Send a message to systemd, as sd_notify(3) does."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            # @ stands for the null byte that begins an abstract address (unix(7)).
            connection.sendto(text.encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)


class Agent:
    """The agent of a machine, which runs until the process is told to end."""

    def __init__(self, root: Path, speed: float) -> None:
        self.root, self.settings, self.clock = root, settings.load(root), Clock(speed)
        self._nvml, self._gpus_known = Nvml(), 0
        self._samples: deque[Sample] = deque()
        self._sampler = machine.Sampler(self.clock.now())
        self._minute: Minute = {}
        self._minute_began = self.clock.now()
        self._progress, self._failure = Progress(), ""
        self._publisher = Publisher(
            protects=self.settings.protection_enabled, clock=self.clock.now, log=log
        )
        self._end = threading.Event()
        self._keeper = keeper.Keeper(root, self.settings, speed, log)
        (root / holds.FOLDER).mkdir(parents=True, exist_ok=True)
        # As /tmp: everybody may write a hold, and nobody may remove another's.
        (root / holds.FOLDER).chmod(0o1777)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        signal.signal(signal.SIGTERM, lambda *_: self._end.set())
        signal.signal(signal.SIGINT, lambda *_: self._end.set())
        self._publisher.start()
        self._keeper.start()
        earlier = machine.read(self.root)
        # Waits until the clock's next multiple of PERIOD_S, so that slow samples do not add up.
        while not self._end.wait((PERIOD_S - self.clock.now() % PERIOD_S) / self.clock.speed):
            later = machine.read(self.root)
            self._look(earlier, later)
            earlier = later
            tell_systemd("WATCHDOG=1")
            if not self._keeper.is_alive():
                raise RuntimeError("a thread has ended; systemd starts another agent")
        self._keeper.stop()
        self._publisher.stop()
        self._nvml.close()

    def _look(self, earlier: machine.Reading, later: machine.Reading) -> None:
        """Take a sample, and do all that follows from it."""
        gpus, lost = self._gpus()
        now = later.at * self.clock.speed
        look = None
        if self._sampler.due(now):
            holders = tuple(self._nvml.processes()) if gpus else ()
            look = evidence.look(self.root, later.at, self._sampler.seen, holders)
        sample = machine.sample(earlier, later, gpus, lost, now)
        self._samples.append(self._sampler.complete(sample, gpus, look))
        # decide() needs one sample from before the window.
        while self._samples[0].at < now - self.settings.window_s - 2 * MISSING_S:
            self._samples.popleft()
        holds_now = holds.read(
            self.root / holds.FOLDER,
            now / self.clock.speed,
            self.settings.longest_hold_hours,
            tidy=True,
        )
        # Files of holds have real seconds, which a rehearsal's clock has not.
        scaled_holds = [
            Hold(hold.until * self.clock.speed, hold.user, hold.reason) for hold in holds_now
        ]
        decision = decide(list(self._samples), now, self.settings, scaled_holds)
        is_free_now = is_free(list(self._samples), now, self.settings, scaled_holds)
        metrics.add(self._minute, metrics.figures(self.root, earlier, later, gpus))
        shares = {
            metrics.IDLE: decision.idle,
            metrics.FREE: is_free_now,
            "golden_idle_held": bool(holds_now),
            "golden_idle_gpu_lost": bool(lost),
        }
        metrics.add(self._minute, (Figure(name, float(is_so)) for name, is_so in shares.items()))
        self._take_step(decision, now)
        if now - self._minute_began >= MINUTE_S:
            if self.settings.metrics_enabled:
                self._publisher.publish(time.time(), self._minute)
            self._minute, self._minute_began = {}, now
        self._write_state(decision, now)

    def _gpus(self) -> tuple[list[Gpu], str]:
        """Return the GPUs, and why one cannot be asked or "". A GPU that leaves the bus is still
        expected."""
        self._gpus_known = max(self._gpus_known, machine.gpus_on_bus(self.root))
        if not self._gpus_known:
            return [], ""
        try:
            return self._nvml.gpus(self._gpus_known), ""
        except NvmlError as error:
            return [], str(error)

    def _take_step(self, decision: Decision, now: float) -> None:
        step = next_step(self._progress, decision, self.settings, now)
        if step is Step.PROTECT:
            if self._progress.stage is not Stage.BUSY:
                log(f"busy again: {decision.reason}")
            self._progress, self._failure = Progress(), ""
            self._publisher.protect(True)
            notice.take_back(self.root)
            self._keeper.stays()
        elif step is not Step.NOTHING and (reason_to_stay := self._reason_to_stay()):
            if self._failure != reason_to_stay:
                log(reason_to_stay)
            # No notice of an end that does not come. The group may still take the machine, once it
            # keeps fewer.
            self._failure, self._progress = reason_to_stay, Progress().failed(now)
            self._publisher.protect(False)
        elif step is Step.ACT and (unsafe := self._unsafe()):
            # The next sample asks again.
            self._failure = unsafe
        elif step is not Step.NOTHING:
            try:
                self._notify(decision, now) if step is Step.NOTIFY else self._act()
            except AccountError as error:
                self._failure, self._progress = str(error), self._progress.failed(now)
                log(f"{step}: {error}")
            else:
                self._failure = ""
                self._progress = self._progress.to(
                    Stage.NOTIFIED if step is Step.NOTIFY else Stage.DONE, now
                )
                log(f"{self._progress.stage}: {decision.reason}")

    def _unsafe(self) -> str:
        """Return what has to be saved before the machine ends, or ""."""
        if self.settings.action in (Action.POWEROFF, Action.LEAVE_GROUP):
            return self._keeper.unsafe()
        return ""

    def _reason_to_stay(self) -> str:
        """Return why an idle machine stays, or "": its group is as small as a calendar or its spare
        machines allow."""
        if self.settings.action is Action.LEAVE_GROUP:
            # If this call fails, AWS itself refuses to make the group smaller.
            with suppress(AccountError):
                connection = account.connect()
                if (group := connection.group()) and (least_size := connection.kept(group)):
                    return f"stays, though idle: the group {group} keeps {least_size} machines now"
        return ""

    def _notify(self, decision: Decision, now: float) -> None:
        connection = account.connect()
        quiet_minutes = (now - (decision.quiet_since or now)) / 60
        lines = notice.lines(connection.instance, self.settings, quiet_minutes)
        lines += owner.lines(owners := owner.of_machine(self.root))
        if self._gpus_known:
            lines += notice.of_holders(notice.holders(self._nvml.processes(), self.root))
        if refusal := self._refusal():
            lines.append(f"That will not happen: {refusal}.")
        connection.notify(
            self.settings.target,
            notice.subject(connection.instance, self.settings, owners),
            "\n".join(lines),
            owners,
        )
        if self.settings.action is not Action.NOTIFY:
            notice.tell_terminals(self.root, "\n".join(lines))
            notice.tell_logins(self.root / notice.LOGIN, "\n".join(lines))

    def _act(self) -> None:
        """Take the action that was announced."""
        if refusal := self._refusal():
            raise AccountError(refusal)
        if self.settings.action is Action.POWEROFF:
            with suppress(AccountError):  # the machine powers off without the tag, too
                account.connect().tag(ENDED, f"idle for {self.settings.window_minutes} minutes")
            process = subprocess.run(
                self.settings.poweroff_command, capture_output=True, text=True, check=False
            )
            if process.returncode:
                raise AccountError(
                    f"{' '.join(self.settings.poweroff_command)}: {process.stderr.strip()}"
                )
        elif self.settings.action is Action.LEAVE_GROUP:
            account.connect().leave_group()
        self._publisher.protect(False)

    def _refusal(self) -> str:
        """Return why the action cannot be taken on this instance, or "" if it can."""
        if self.settings.action is Action.POWEROFF and (group := account.connect().group()):
            return (
                f"poweroff is refused: the group {group} would replace the instance; "
                "set the action leave_group"
            )
        if self.settings.action is Action.LEAVE_GROUP and not account.connect().group():
            return "leave_group is refused: the instance is in no group; set the action poweroff"
        return ""

    def _write_state(self, decision: Decision, now: float) -> None:
        """Write the state for `golden-idle why` and `status`, in real seconds."""
        speed = self.clock.speed
        state = {
            "at": now / speed,
            "idle": decision.idle,
            "reason": decision.reason,
            "stage": self._progress.stage,
            "quiet_s": now - decision.quiet_since if decision.quiet_since is not None else 0,
            "window_s": self.settings.window_s,
            "longest_hold_hours": self.settings.longest_hold_hours,
            "action": self.settings.action,
            "target": bool(self.settings.target),
            "acts_in_s": max(0.0, self._progress.since + self.settings.grace_s - now)
            if self._progress.stage is Stage.NOTIFIED
            else None,
            "failure": self._failure,
            **self._publisher.state(),
        }
        write(self.root / STATE, state)
