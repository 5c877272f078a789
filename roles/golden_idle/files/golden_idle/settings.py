"""The settings: those of the image, which a launch's settings override.

Both are JSON objects with the same keys.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

IMAGE, LAUNCH = Path("etc/golden-idle.json"), Path("etc/golden-idle.local.json")
"""Paths below the root. User data writes the second file; it alone may hold a webhook's address."""
LEAST_WINDOW, LEAST_GRACE = 15, 5
"""The least window and grace, in minutes: a build or a download pauses for less than the first, and
a person needs the second to write a hold."""
CPU, GPU, NETWORK, DISKS = "CPU seconds", "GPU seconds", "MB of network", "MB of disks"
"""What is summed up over the window, in words for people."""
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")
_KEEP = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(?!\.\.?$)[A-Za-z0-9._-]{1,64}")
_PARAMETER = re.compile(r"ssm:/[A-Za-z0-9._/-]{1,1000}")


class WrongSettings(Exception):
    """A wrong setting, in one line: which file or key, what is wrong with it, what to do."""


class Action(StrEnum):
    """What happens when the machine is idle. Each except `none` begins with a notice."""

    NONE = "none"
    NOTIFY = "notify"
    POWEROFF = "poweroff"
    LEAVE_GROUP = "leave_group"


@dataclass(frozen=True)
class Settings:
    """The settings. roles/golden_idle/README.md describes each, with the role's prefix."""

    action: Action
    target: str
    window_minutes: int
    grace_minutes: int
    cpu_seconds: float
    gpu_seconds: float
    network_mb: float
    disks_mb: float
    longest_hold_hours: int
    metrics_enabled: bool
    protection_enabled: bool
    poweroff_command: tuple[str, ...]
    keep: str

    @property
    def window_s(self) -> float:
        """Seconds."""
        return self.window_minutes * 60

    @property
    def lines(self) -> dict[str, float]:
        """The line of each sum over the window; the settings are those of an hour."""
        hours = self.window_minutes / 60
        return {
            CPU: self.cpu_seconds * hours,
            GPU: self.gpu_seconds * hours,
            NETWORK: self.network_mb * hours,
            DISKS: self.disks_mb * hours,
        }

    @property
    def grace_s(self) -> float:
        """Seconds."""
        return self.grace_minutes * 60


KEYS = tuple(field.name for field in fields(Settings))
_WHOLE = {
    "window_minutes": LEAST_WINDOW,
    "grace_minutes": LEAST_GRACE,
    "longest_hold_hours": 1,
}
"""Settings that are whole numbers, with the least value of each."""
_LINES = ("cpu_seconds", "gpu_seconds", "network_mb", "disks_mb")


def load(root: Path) -> Settings:
    """Return the settings of the machine whose files are below `root`. Raises WrongSettings for the
    first one that is wrong."""
    image, launch = root / IMAGE, root / LAUNCH
    values = _read(image)
    check_image(values)
    if launch.exists():
        values |= _read(launch)
    return check(values)


def read_image(path: Path) -> Settings:
    """Return the settings of an image's file alone: a bake checks it before it is installed."""
    values = _read(path)
    check_image(values)
    return check(values)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongSettings(
            f"{path}: {error.strerror}: bake the image with the role golden_idle"
        ) from None
    except ValueError as error:
        raise WrongSettings(f"{path}: no JSON: {error}") from None
    if not isinstance(values, dict):
        raise WrongSettings(f'{path}: has to be an object, such as {{"action": "none"}}')
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise WrongSettings(
                f"{path}: unknown key `{key}`; "
                + (f"did you mean `{near[0]}`?" if near else f"known: {', '.join(KEYS)}")
            )
    return values


def check_image(values: Mapping[str, Any]) -> None:
    """Raise WrongSettings if an image holds a webhook's address: anybody who has it may write
    there."""
    if str(values.get("target", "")).startswith("https:"):
        raise WrongSettings(
            "target: a webhook's address is a secret, and an image holds none: put it into an SSM "
            f"parameter and write `ssm:/NAME`, or let user data write /{LAUNCH}"
        )


def check(values: Mapping[str, Any]) -> Settings:
    """Return `values` as settings. Raises WrongSettings for the first one that is wrong."""
    for key in KEYS:
        if key not in values:
            raise WrongSettings(f"{key} is missing")
    _check_numbers(values)
    for key in ("metrics_enabled", "protection_enabled"):
        if type(values[key]) is not bool:
            raise WrongSettings(f"{key} is {values[key]!r}: it has to be true or false")
    if values["action"] not in list(Action):
        raise WrongSettings(
            f"action is {values['action']!r}: it has to be one of {', '.join(Action)}"
        )
    command = values["poweroff_command"]
    if (
        not isinstance(command, list)
        or not command
        or not all(isinstance(word, str) for word in command)
    ):
        raise WrongSettings(f"poweroff_command is {command!r}: it has to be a list of words")
    _check_target(Action(values["action"]), values["target"])
    if not isinstance(values["keep"], str) or (
        values["keep"] and not _KEEP.fullmatch(values["keep"])
    ):
        raise WrongSettings(
            f"keep is {values['keep']!r}: it has to be `s3://BUCKET/TEAM`, with a TEAM of letters, "
            "digits, `.`, `_` and `-`, or empty"
        )
    return Settings(
        **{**values, "action": Action(values["action"]), "poweroff_command": tuple(command)}
    )


def _check_numbers(values: Mapping[str, Any]) -> None:
    for key, least in _WHOLE.items():
        # Not isinstance: a bool is an int, too.
        if type(values[key]) is not int or values[key] < least:
            raise WrongSettings(
                f"{key} is {values[key]!r}: it has to be a whole number from {least} on"
            )
    for key in _LINES:
        if type(values[key]) not in (int, float) or not 0 <= values[key] < float("inf"):
            raise WrongSettings(f"{key} is {values[key]!r}: it has to be a number from 0 on")


def _check_target(action: Action, target: Any) -> None:
    if action is not Action.NONE and not target:
        raise WrongSettings(
            f"action is {action}, and target is empty: nobody would be told; name an SNS topic's "
            "ARN, or `ssm:/NAME` of a parameter that holds a webhook's address"
        )
    if not isinstance(target, str) or (target and not is_target(target)):
        raise WrongSettings(
            f"target is {target!r}: it has to be the ARN of an SNS topic (no FIFO), an `https://` "
            "address, or `ssm:/NAME` of a parameter that holds one"
        )


def is_topic(target: str) -> bool:
    """Return whether the target is the ARN of an SNS topic."""
    return bool(_TOPIC.fullmatch(target))


def is_webhook(target: str) -> bool:
    """Return whether the target is an https address with a host."""
    try:
        parts = urlsplit(target)
        # urlsplit checks a port only when it is read.
        good = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        good
        and parts.scheme == "https"
        and bool(parts.hostname)
        and not re.search(r"[^!-~]", target)
    )


def is_target(target: str) -> bool:
    """Return whether a notice can be sent to the target."""
    return is_topic(target) or is_webhook(target) or bool(_PARAMETER.fullmatch(target))
