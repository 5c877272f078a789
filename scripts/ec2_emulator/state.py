"""The emulator's state beside moto's own: settings, the log of calls, remembered client tokens and
blocks.

One process is one account. moto makes a handler for each request without arguments, so handlers
find the state here.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from goldenami.core import clock
from goldenami.core.records import Record
from pydantic import Field

from ec2_emulator.late_rules import LateRule
from ec2_emulator.storage.block_store import BlockStore

MY_ACCOUNT = "123456789012"
"""moto's account for every access key that `EmulatorSettings.accounts` does not name."""


USD_HOUR = {
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g4dn.8xlarge": 2.176,
    "g4dn.12xlarge": 3.912,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g5.4xlarge": 1.624,
    "g5.8xlarge": 2.448,
    "g5.12xlarge": 5.672,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6.4xlarge": 1.3232,
    "g6.8xlarge": 2.0144,
    "g6.12xlarge": 4.6016,
    "g6e.xlarge": 1.861,
    "g6e.2xlarge": 2.24208,
    "g6e.4xlarge": 3.00424,
    "g6e.8xlarge": 4.52856,
    "t3.micro": 0.0104,
    "c6id.large": 0.1008,
}
"""On-demand prices (US dollars an hour) of GPU types and two small ones in us-east-1 on
https://aws.amazon.com/ec2/pricing/on-demand/ in 2024-12; here the prices of all regions."""


class StatedAnswer(Record):
    """The answer to a call in a region if its request has all fields of `asked`. If several answers
    match, their lists are joined and come in pages."""

    call: str
    answer: dict[str, Any]
    region: str = "*"
    asked: dict[str, Any] = Field(default_factory=dict)


class EmulatorSettings(Record):
    """Settings that a test changes by PATCH of the control API; `reset` restores the defaults."""

    pending_s: float = 0.2
    """Seconds that a snapshot, an AMI or a parameter of type aws:ec2:image stays unfinished."""
    page_most: int = 10_000
    """The most items in a page, whatever the call allows: with a small number, few items make many
    pages."""
    refresh_s: float = 0.2
    """Seconds that an instance refresh stays in each of its states."""
    backdate_days: float = 0.0
    """Days by which AMIs and snapshots that are made from now on appear older than they are."""
    clock_ahead_s: float = 0.0
    """Seconds that the emulator's clock is ahead of this machine's: a client with a wrong clock."""
    schedule_ahead_s: float = 0.0
    """Seconds by which Auto Scaling is ahead of that clock when it carries out scheduled
    actions."""
    denied: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """IAM denials: access key (or `*`) to patterns of actions, such as `ec2:RegisterImage` or
    `ebs:*`."""
    allowed: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """IAM policies: access key (or `*`) to patterns of the only actions that it may do. A key that
    is not listed may do all."""
    disabled_regions: tuple[str, ...] = ()
    """Regions that the account has not enabled."""
    accounts: dict[str, str] = Field(default_factory=dict)
    """Access keys of other accounts, to act as those that an image is shared with."""
    has_default_vpc: bool = True
    """Whether each region has a default network."""
    instance_address: str = ""
    """The public address of every instance, for a test that runs one; "": moto's addresses, where
    nobody answers."""
    usd_hour: dict[str, dict[str, float]] = Field(default_factory=lambda: {"*": USD_HOUR})
    """The price list: region (or `*`) to type to dollars for an hour of Linux on demand."""
    answers: tuple[StatedAnswer, ...] = ()
    """Answers to calls that read what no command makes: bills, reservations, fleets."""
    usd_spot: dict[str, float] = Field(default_factory=dict)
    """Spot prices of availability zones, as shares of the on-demand price."""
    spot_taken: int = 0
    """The number of Spot instances that EC2 takes back, each a moment after its launch."""
    broken: tuple[str, ...] = ()
    """Rules of the contract that are not kept (`seeds`)."""
    copies_failed: int = 0
    """The number of copies of AMIs that EC2 gives up after it answered."""
    late: tuple[LateRule, ...] = ()
    """Calls that answer late, out of date or not at all."""
    late_seed: int = 0
    """The seed that decides to which calls a rule with a share below 1 applies."""


@dataclass
class ApiCall:
    """An API call as it arrived. `service` is IAM's prefix, mostly the signing name, too; `met` are
    the modes of the `late_rules` that applied to it."""

    service: str
    action: str
    region: str
    key: str
    actions: tuple[str, ...] = ()
    met: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the call's name, such as `ec2:RegisterImage`. The IAM actions that it needs are in
        `actions`."""
        return f"{self.service}:{self.action}"


@dataclass
class EmulatorState:
    """The state of one emulator."""

    settings: EmulatorSettings = field(default_factory=EmulatorSettings)
    history: list[tuple[float, EmulatorSettings]] = field(default_factory=list)
    calls: list[ApiCall] = field(default_factory=list)
    tokens: dict[tuple[str, ...], tuple[dict[str, Any], Any]] = field(default_factory=dict)
    """First requests with a client token, and their answers."""
    pending_parameters: list[Any] = field(default_factory=list)
    blocks: BlockStore = field(default_factory=BlockStore)
    lock: threading.RLock = field(default_factory=threading.RLock)
    spot_taken: int = 0
    """Spot instances that were taken back."""
    copies_failed: int = 0
    """Copies that were given up."""
    defects: list[str] = field(default_factory=list)
    """What answers of the emulator had wrong. They outlive a reset: who asks takes them."""

    def set(self, settings: EmulatorSettings) -> None:
        """Change the settings. A wait that was over under the old settings stays over."""
        self.history.append((time.monotonic(), self.settings))
        self.settings = settings

    def is_over(self, since: float, wait: Callable[[EmulatorSettings], float]) -> bool:
        """Return whether a wait that began at `since` (monotonic seconds) is over, or was over
        while earlier settings held."""
        # Each settings object with the time until which it held; the present one holds until now.
        periods = [*self.history, (time.monotonic(), self.settings)]
        return any(since + wait(settings) <= until for until, settings in periods if until >= since)

    def creation_date(self) -> datetime.datetime:
        """Return the creation date for new AMIs and snapshots, without a time zone, as moto keeps
        dates."""
        return self.now().replace(tzinfo=None) - datetime.timedelta(
            days=self.settings.backdate_days
        )

    def now(self) -> datetime.datetime:
        """Return the time of the emulator's clock, in UTC and whole seconds."""
        return clock.now() + datetime.timedelta(seconds=self.settings.clock_ahead_s)

    def reset(self) -> None:
        """Forget everything. The caller resets moto's own state."""
        self.settings = EmulatorSettings()
        self.history.clear()
        self.calls.clear()
        self.tokens.clear()
        self.pending_parameters.clear()
        self.blocks.clear()
        self.spot_taken = self.copies_failed = 0


STATE = EmulatorState()
