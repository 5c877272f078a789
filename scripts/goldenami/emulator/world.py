"""What the emulator holds beside moto's own state: settings, the log of calls, remembered client tokens, blocks.

One process is one world. Handlers are made by moto for each request, without arguments, so they find it here.
"""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from goldenami import clock
from goldenami.emulator.arena import Arena
from goldenami.records import Record

MY_ACCOUNT = "123456789012"
"""moto's account for every access key that `Settings.accounts` does not name."""


class Settings(Record):
    """What a test may set, by PATCH of the control API; `reset` brings the defaults back."""

    pending_s: float = 0.2
    """Seconds that a snapshot, an AMI, a parameter of type aws:ec2:image or a refresh stays unfinished."""
    clock_ahead_s: float = 0.0
    """Seconds that the emulator's clock is ahead of this machine's: a client with a wrong clock."""
    denied: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """IAM denials: access key (or `*`) to patterns of actions, such as `ec2:RegisterImage` or `ebs:*`."""
    expired_tokens: tuple[str, ...] = ()
    """Session tokens of temporary credentials that have expired."""
    unknown_keys: tuple[str, ...] = ()
    """Access keys that do not exist (any longer)."""
    disabled_regions: tuple[str, ...] = ()
    """Regions that the account has not enabled."""
    accounts: dict[str, str] = Field(default_factory=dict)
    """Access keys of other accounts, to act as those that an image is shared with."""
    launch_report_s: float = 24 * 3600.0
    """Seconds until a launch shows in an AMI's LastLaunchedTime (API_Image: a delay of 24 hours)."""
    block_life_s: float = 3600.0
    """Seconds for which a token of a block is good."""


@dataclass(frozen=True)
class Call:
    """One API call as it arrived: `service` is the signing name, which is also IAM's prefix."""

    service: str
    action: str
    region: str
    key: str
    status: int = 0

    @property
    def name(self) -> str:
        """As IAM policies write it, `ec2:RegisterImage`; where IAM calls an action otherwise is the reader's task."""
        return f"{self.service}:{self.action}"


@dataclass
class World:
    """The state of one emulator."""

    settings: Settings = field(default_factory=Settings)
    calls: list[Call] = field(default_factory=list)
    tokens: dict[tuple[str, ...], tuple[str, Any]] = field(default_factory=dict)
    late: list[Any] = field(default_factory=list)
    arena: Arena = field(default_factory=Arena)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> datetime.datetime:
        """The emulator's clock, in UTC without fractions."""
        return clock.now() + datetime.timedelta(seconds=self.settings.clock_ahead_s)

    def reset(self) -> None:
        """Forget everything; moto's own state is reset beside it by the caller."""
        self.settings = Settings()
        self.calls.clear()
        self.tokens.clear()
        self.late.clear()
        self.arena.clear()


WORLD = World()
