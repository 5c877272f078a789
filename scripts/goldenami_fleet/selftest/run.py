"""One run of `golden selftest`: its steps in their order, within a limit of dollars, and all of it
gone at the end."""

from __future__ import annotations

import math
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from goldenami.aws import error_kinds, refusals
from goldenami.aws.contract import CONTRACT
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.recording import RecordedCall, Recorder
from goldenami.aws.session import Account, translate
from goldenami.core import units
from goldenami.core.errors import Busy, GoldenError, HostNotReady, StageFailed, Unreachable
from goldenami.core.terminal.progress import Progress
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.operation.publish_section import SELFTEST_IMAGE

from goldenami_fleet.selftest import selftest_records
from goldenami_fleet.selftest.plan import Step
from goldenami_fleet.selftest.probes.probes import LIFE
from goldenami_fleet.selftest.selftest_records import Deviation, StepResult, StepState

IMAGE = SELFTEST_IMAGE
"""The image that lives through a run, in the account as well: all of its name is a run's."""
LIFETIME = timedelta(hours=6)
"""How long after its making a thing of a run may be removed by `golden sweep`, if its process is
not known to have ended."""


class OutOfTime(BaseException):
    """A step takes longer than anybody waits. It is no Exception, which botocore would take for a
    failed call and ask again."""


@dataclass
class SelftestRun:
    """A run, and what its steps found so far.

    `root` is a checkout of its own with two verified `builds` of IMAGE, `work` a scratch folder.
    `golden` runs a command of `golden` there. `tags` are on all that is made; `gib` is the size of
    a build's disk. `most_usd` is the limit of dollars. `left` is what is still there at the end.
    """

    account: Account
    regions: tuple[str, ...]
    root: Path
    builds: tuple[str, ...]
    work: Path
    golden_command: Callable[[list[str]], int]
    recorder: Recorder
    prices: RegionPrices
    most_usd: float
    tags: Mapping[str, str]
    progress: Progress
    gib: float = 1.0
    emulated: bool = False
    gpu: bool = False
    name: str = field(default_factory=lambda: secrets.token_hex(3))
    results: list[StepResult] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    deviations: list[Deviation] = field(default_factory=list)
    _shown: dict[str, None] = field(default_factory=dict)
    _lived: set[str] = field(default_factory=set)
    _step: Step = field(init=False)
    _began: bool = field(init=False, default=False)

    @property
    def home(self) -> str:
        return self.regions[0]

    @property
    def spent_usd(self) -> float:
        return sum(result.usd for result in self.results)

    @property
    def left_usd(self) -> float:
        return self.most_usd - self.spent_usd

    def folder(self, number: int) -> BuildFolder:
        return ImageFolder.of(self.root, IMAGE).build(self.builds[number])

    def golden(self, *words: str, ends: int = 0) -> None:
        """Run a command of `golden` as a person types it. Raises its error, or a deviation's if it
        ends with another exit code than `ends`."""
        print(f"\n$ golden {' '.join(words)}", flush=True)
        try:
            code = self.golden_command(list(words))
        except GoldenError as error:
            if not ends or error.exit_code != ends:
                raise
            code = ends
        if code != ends:
            raise WrongEnd(f"`golden {words[0]}` ended with {code}, not {ends}")
        self._shown |= {rule: None for rule, command in LIFE.items() if command == words[0]}

    def expect(self, rule: str, expected: object, actual: object) -> None:
        """Hold what AWS did to what we take it to do. The call is the last one that was made."""
        if expected == actual:
            self._shown[rule] = None
        else:
            self._differs(rule, str(expected), str(actual), self._last_call)

    @property
    def _last_call(self) -> RecordedCall | None:
        return self.recorder.calls[-1] if self.recorder.calls else None

    def _differs(self, rule: str, expected: str, actual: str, call: RecordedCall | None) -> None:
        row = CONTRACT.get(rule)
        deviation = Deviation(
            step=self._step.name,
            rule=rule,
            page=row.page if row else "",
            expected=expected,
            actual=actual,
            call=call,
        )
        self.deviations.append(deviation)
        for line in selftest_records.lines([deviation]):
            self.progress.say(f"differs: {line.strip()}")

    def take(self, step: Step, parts: Sequence[tuple[str, Callable[[SelftestRun], None]]]) -> None:
        """Take a step: its `parts`, each with its label, one after another, also after one that
        failed. The part that is called as the step is its command."""
        self._step, found, began = step, len(self.deviations), time.monotonic()
        self._shown.clear()
        why = self._obstacle(step)
        if not why:
            with self.progress.step(step.name, step.does):
                reasons = [self._part(step, label, run) for label, run in parts]
            why = "; ".join(dict.fromkeys(filter(None, reasons)))
        seconds = time.monotonic() - began
        state = StepState.SHOWN
        if why:
            state = StepState.UNREACHABLE
            self.progress.say(f"{step.name} is unreachable: {why}")
        if len(self.deviations) > found:
            state = StepState.DIFFERS
        minutes = seconds / 60
        if state is not StepState.SHOWN:
            # A machine may have been left, which ends itself by then.
            minutes = max(minutes, step.most_minutes)
        usd = step.usd(self.prices, self.gib, minutes) if self._began else 0.0
        self.results.append(
            StepResult(
                step=step.name,
                does=step.does,
                state=state,
                why=why,
                seconds=round(seconds, 1),
                usd=round(usd, 4),
                rules=tuple(self._shown),
            )
        )

    def give_up(self, steps: Sequence[Step], why: str) -> None:
        """Note steps that are not taken, the first of them perhaps not to its end."""
        for step in steps:
            most = step.usd(self.prices, self.gib, step.most_minutes) if self._began else 0.0
            self._began = False
            self.results.append(
                StepResult(
                    step=step.name,
                    does=step.does,
                    state=StepState.UNREACHABLE,
                    why=why,
                    seconds=0,
                    usd=round(most, 4),
                )
            )

    def _obstacle(self, step: Step) -> str:
        """Why the step is not begun, or ""."""
        self._began = False
        missing = [need for need in step.needs if need not in self._lived]
        if missing:
            return f"{', '.join(missing)} was not shown"
        most = step.usd(self.prices, self.gib, step.most_minutes)
        if math.isinf(most):
            why = self.prices.unknown or f"the price list of {self.home} has not all of its types"
            return f"no limit could be kept without prices: {why}"
        if most > self.left_usd:
            return (
                f"it may cost ${most:.2f}, and ${self.left_usd:.2f} of ${self.most_usd:.2f} are "
                "left (--max-usd)"
            )
        self._began = True
        return ""

    def _part(self, step: Step, label: str, run: Callable[[SelftestRun], None]) -> str:
        """Run one part; return why it is unreachable, or ""."""
        with self.recorder.labelled(label):
            try:
                with _limited(step):
                    run(self)
            except OutOfTime as late:
                self._differs("", "an end in time", str(late), self._last_call)
                return ""
            except Exception as error:  # whatever a step ends with, the others go on
                return self._judge(error)
        if label == step.name:
            self._lived.add(step.name)
        return ""

    def _judge(self, error: Exception) -> str:
        """Tell an obstacle in the account or here, which is returned, from a deviation of AWS,
        which is noted."""
        call = self.recorder.last_error()
        try:
            ours = translate(error, self.home)
        except Exception as defect:
            # An answer without a field that we read, for instance.
            self._differs("", "an answer that we understand", repr(defect), self._last_call)
            return ""
        if isinstance(ours, (HostNotReady, Unreachable, Busy)) or _is_obstacle(call):
            return f"{ours.message} ({ours.hint})" if ours.hint else ours.message
        self._differs("", "success", ours.message, call)
        return ""


class WrongEnd(StageFailed):
    """A command ended otherwise than it should."""


def _is_obstacle(call: RecordedCall | None) -> bool:
    """Whether AWS refused a call for want of something that an account may lack."""
    if call is None:
        return False
    row = refusals.find(call.operation, call.error)
    return bool(row and row.instead) or bool(error_kinds.QUOTA.search(call.error))


@contextmanager
def _limited(step: Step) -> Iterator[None]:
    """Raise OutOfTime in the block once the step's limit has passed."""

    def over(_signum: int, _frame: FrameType | None) -> None:
        raise OutOfTime(f"{step.name} takes longer than {units.clock(60 * step.most_minutes)}")

    former: Any = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 60 * step.most_minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
