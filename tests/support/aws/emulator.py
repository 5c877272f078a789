"""The emulated EC2: its process, its control API and its faults."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import Any

import pytest
import urllib3

from support.aws.iam_policies import Asked


class Process:
    """A program that prints an address, or is asked until it answers, and is ended with the
    session."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(argv, env={**os.environ, **env}, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        """The next line of its standard output; fails where it ended instead."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        assert text, f"{self._process.args!r} ended with {self._process.wait()}"
        return text.strip()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None and self._process.stdin is not None
        self._process.stdout.close()
        self._process.stdin.close()


class Emulator:
    """The emulator's control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager()
        self._answers: list[dict[str, Any]] = []

    def _ask(self, method: str, what: str, **fields: Any) -> Any:
        answer = self._http.request(method, f"{self.url}/_emulator/{what}",
                                    body=json.dumps(fields).encode())
        assert answer.status == 200, answer.data.decode()
        return answer.json()

    def reset(self) -> None:
        """An account with nothing in it, default settings, an empty log of calls."""
        self._ask("POST", "reset")
        self._answers.clear()

    def calls(self) -> list[tuple[str, str]]:
        """(`service:Action`, region) of each call since the reset, in order."""
        return [(f"{call['service']}:{call['action']}", call["region"])
                for call in self._ask("GET", "calls")]

    def met(self) -> list[list[str]]:
        """The modes of lateness that each call since the reset met."""
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

    def answer(self, call: str, /, region: str = "*", asked: dict[str, Any] | None = None,
               **answer: Any) -> None:
        """State one more answer (`ec2_emulator.state.StatedAnswer`) to a call that reads."""
        self._answers.append({"call": call, "region": region, "asked": asked or {},
                              "answer": answer})
        self.set(answers=self._answers)

    def late(self, *rules: dict[str, Any], seed: int = 0) -> None:
        """Set `ec2_emulator.late_rules.LateRule`s, for instance `{"mode": "stale", "share": 0.5}`,
        or none."""
        self.set(late=rules, late_seed=seed)

    def damage(self, snapshot: str, region: str, block: int, bit: int = 0) -> None:
        """Flip a bit of a stored block, checksum included."""
        self._ask("POST", "damage", snapshot=snapshot, region=region, block=block, bit=bit)

    def write(self, instance: str, region: str, offset: int, data: bytes) -> None:
        """Write to an instance's root volume, as the instance itself would."""
        self._ask("POST", "write", instance=instance, region=region, offset=offset,
                  data=base64.b64encode(data).decode())


def retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds between botocore's tries: what is tested is what happens after them, not the
    wait."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount",
                        lambda _self, _context: 0.01)


class Faults:
    """Refusals and broken connections that a test adds one after the other."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator, self._rules, self._since = emulator, list[dict[str, Any]](), 0

    def add(self, calls: str, mode: str = "refused", **what: Any) -> None:
        """One more `LateRule` for calls such as `ec2:RunInstances`."""
        self._rules.append({"mode": mode, "calls": [calls], **what})
        self._emulator.late(*self._rules)

    def clear(self) -> None:
        """No fault any longer, and none met."""
        self._rules.clear()
        self._emulator.late()
        self._since = len(self._emulator.met())

    def met(self) -> int:
        """How many calls met one."""
        return sum(map(bool, self._emulator.met()[self._since:]))
