"""Fixtures of the tests that need EC2: the emulator as a process of its own, and an environment that leads to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEMULATOR00000000", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}

Client = Callable[..., Any]


class Process:
    """A program that prints an address, or is asked until it answers, and is ended with the session."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        """The next line of its standard output; fails where it ended instead."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        assert text, f"{self._process.args} ended with {self._process.wait()}"
        return text.strip()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Emulator:
    """The emulator's control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager()

    def _ask(self, method: str, what: str, **fields: Any) -> Any:
        answer = self._http.request(method, f"{self.url}/_emulator/{what}", body=json.dumps(fields).encode())
        assert answer.status == 200, answer.data.decode()
        return answer.json()

    def reset(self) -> None:
        """An account with nothing in it, default settings, an empty log of calls."""
        self._ask("POST", "reset")

    def calls(self) -> list[tuple[str, str]]:
        """(`service:Action`, region) of each call since the reset, in order."""
        return [(f"{call['service']}:{call['action']}", call["region"]) for call in self._ask("GET", "calls")]

    def set(self, **settings: Any) -> None:
        """Change settings, for instance `denied={"*": ["ec2:RegisterImage"]}` (`goldenami.emulator.world.Settings`)."""
        self._ask("PATCH", "settings", **settings)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    process = Process([sys.executable, "-m", "goldenami.emulator", "--port", "0"],
                      {"PYTHONPATH": str(ROOT / "scripts")})
    yield Emulator(process.line().partition("=")[2])
    process.stop()


@pytest.fixture
def aws(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    """An empty account that this process and its children reach, and no other account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": emulator.url, "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
                        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers the credentials of the test before
    emulator.reset()
    return emulator


def client(url: str, service: str, region: str = REGION, key: str = KEYS["AWS_ACCESS_KEY_ID"], **more: Any) -> Any:
    """A client with short patience, whose first error is the answer."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
    return boto3.client(service, region_name=region, endpoint_url=url, aws_access_key_id=key,
                        aws_secret_access_key="not-a-secret", config=config, **more)
