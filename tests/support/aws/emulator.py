"""The emulated EC2: its process, its control API and its faults."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from support.aws.iam_policies import Asked

ROOT = Path(__file__).resolve().parents[3]


KEY = "AKIAEMULATOR00000000"
REGION = "us-east-1"


class Emulator:
    """The emulator's control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager()
        self._answers: list[dict[str, Any]] = []

    def _ask(self, method: str, what: str, **fields: Any) -> Any:
        answer = self._http.request(
            method, f"{self.url}/_emulator/{what}", body=json.dumps(fields).encode()
        )
        assert answer.status == 200, answer.data.decode()
        return answer.json()

    def reset(self) -> None:
        """An account with nothing in it, default settings, an empty log of calls."""
        self._ask("POST", "reset")
        self._answers.clear()

    def defects(self) -> list[str]:
        """What was wrong with answers since it was last asked: `ec2_emulator.witness`."""
        return list(self._ask("POST", "defects"))

    def calls(self) -> list[tuple[str, str]]:
        """(`service:Action`, region) of each call since the reset, in order."""
        return [
            (f"{call['service']}:{call['action']}", call["region"])
            for call in self._ask("GET", "calls")
        ]

    def met(self) -> list[list[str]]:
        return [call["met"] for call in self._ask("GET", "calls")]

    def asked(self) -> list[list[str]]:
        """The IAM actions that each call since the reset needed."""
        return [call["actions"] for call in self._ask("GET", "calls")]

    def noted(self) -> list[Asked]:
        """What IAM was asked since the reset, where `support.aws.asked` runs."""
        return [Asked(**each) for each in self._ask("GET", "asked")]

    def set(self, **settings: Any) -> None:
        """Change `ec2_emulator.state.EmulatorSettings`, for instance `denied={"*":
        ["ec2:RegisterImage"]}`."""
        self._ask("PATCH", "settings", **settings)

    def answer(
        self, call: str, /, region: str = "*", asked: dict[str, Any] | None = None, **answer: Any
    ) -> None:
        """State one more answer (`ec2_emulator.state.StatedAnswer`) to a call that reads."""
        self._answers.append(
            {"call": call, "region": region, "asked": asked or {}, "answer": answer}
        )
        self.set(answers=self._answers)

    def late(self, *rules: dict[str, Any], seed: int = 0) -> None:
        """Set `ec2_emulator.late_rules.LateRule`s, for instance `{"mode": "stale", "share": 0.5}`,
        or none."""
        self.set(late=rules, late_seed=seed)

    def damage(self, snapshot: str, region: str, block: int, bit: int = 0) -> None:
        self._ask("POST", "damage", snapshot=snapshot, region=region, block=block, bit=bit)

    def write(self, instance: str, region: str, offset: int, data: bytes) -> None:
        """Write to an instance's root volume, as the instance itself would."""
        self._ask(
            "POST",
            "write",
            instance=instance,
            region=region,
            offset=offset,
            data=base64.b64encode(data).decode(),
        )


@contextmanager
def running(program: str = "ec2_emulator") -> Iterator[Emulator]:
    """An emulator as a process of its own; `support.aws.asked` notes what IAM is asked, too."""
    path = f"{ROOT / 'scripts'}:{ROOT / 'tests'}"
    with subprocess.Popen(
        [sys.executable, "-m", program, "--port", "0"],
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, f"{program} ended with {process.wait()}"
        try:
            yield Emulator(line.partition("=")[2])
        finally:
            process.terminate()


def environment(url: str, folder: Path) -> dict[str, str]:
    """What leads a program to the account at `url`, and to no other; `folder` has no settings."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
    }


def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds between botocore's tries: what is tested is what happens after them, not the
    wait."""
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda _self, _context: 0.01
    )


class Faults:
    """Refusals and broken connections that a test adds one after the other."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator, self._rules, self._since = emulator, list[dict[str, Any]](), 0

    def add(self, calls: str, mode: str = "refused", **what: Any) -> None:
        """One more `LateRule` for calls such as `ec2:RunInstances`."""
        self._rules.append({"mode": mode, "calls": [calls], **what})
        self._emulator.late(*self._rules)

    def clear(self) -> None:
        self._rules.clear()
        self._emulator.late()
        self._since = len(self._emulator.met())

    def met(self) -> int:
        return sum(map(bool, self._emulator.met()[self._since :]))
