"""Fixtures of the tests that need EC2: the emulator as a process of its own, and an environment
that leads to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.definitions import role_rules
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_files
from support.aws import quick
from support.aws.emulator import Emulator, Faults, environment, retry_at_once, running
from support.aws.kill_proxy import KillProxy
from support.aws.retirement import LATER
from support.aws.rule_requests import ProbeAccount
from support.aws.seeded_account import Calendar, SeededAccount
from support.builds.builds import IMAGE, Checkout
from support.builds.tools import need_disk_tools
from support.drift import cloud_disk
from support.drift.cloud_disk import ONE_REGION, CloudDisk


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quick.apply(patch)
        yield


FINE, BROUGHT = set[str](), dict[tuple[str, str], list[str]]()
"""Definitions that their roles take, and what a role brings, as first asked."""


@pytest.fixture(autouse=True)
def _checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A definition is held to its roles once for all tests, which all have this checkout's roles.

    Each command does that anew, a twentieth of the processor time of these tests. What is refused
    is asked every time.
    """
    broken, brought = role_rules.broken, role_files.brought

    def asked_once(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
        text = definition.model_dump_json()
        found = [] if text in FINE else list(broken(root, source, definition))
        if not found:
            FINE.add(text)
        return iter(found)

    def brought_once(root: Path, role: str, given: Mapping[str, Any]) -> list[str]:
        key = role, repr(given)
        if key not in BROUGHT:
            BROUGHT[key] = brought(root, role, given)
        return BROUGHT[key]

    monkeypatch.setattr(role_rules, "broken", asked_once)
    monkeypatch.setattr(role_files, "brought", brought_once)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with running() as found:
        yield found


@pytest.fixture
def aws(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    """An empty account that this process and its children reach, and no other account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(emulator.url, tmp_path).items():
        monkeypatch.setenv(name, value)
    # It remembers the credentials of the test before.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    emulator.reset()
    emulator.defects()  # of what a killed process of the test before asked at last
    emulator.set(pending_s=quick.PENDING_S)
    yield emulator
    assert emulator.defects() == []


@pytest.fixture
def checkout(aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout whose commands run in this process, on the empty account."""
    return Checkout(tmp_path / "checkout", monkeypatch)


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    """The project's clock, which a test may set ahead."""
    days_ahead = Calendar()
    monkeypatch.setattr(clock, "now", days_ahead)
    return days_ahead


@pytest.fixture
def later(calendar: Calendar) -> None:
    """The day on which everything in a seeded account is old."""
    calendar.days = LATER


@pytest.fixture
def account(aws: Emulator) -> SeededAccount:
    """An account to fill, in which nothing stays pending."""
    aws.set(pending_s=0)
    return SeededAccount(aws)


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    """A small image with a disk, a manifest and a list of blocks."""
    need_disk_tools()
    return cloud_disk.bake(tmp_path_factory.mktemp("baked"), IMAGE)


@pytest.fixture
def cloud(account: SeededAccount, checkout: Checkout, baked: BuildFolder) -> CloudDisk:
    """The small image, published in one region."""
    checkout.define(ONE_REGION)
    return CloudDisk.publish(account, cloud_disk.copy(baked, checkout.root))


@pytest.fixture(scope="module")
def kill_proxy(emulator: Emulator) -> Iterator[KillProxy]:
    """A proxy in front of the emulator that kills a run at a call."""
    proxy = KillProxy(emulator.url)
    yield proxy
    proxy.close()


@pytest.fixture
def probed(emulator: Emulator) -> Iterator[ProbeAccount]:
    """An empty account, to ask for a rule."""
    yield ProbeAccount(emulator)
    assert emulator.defects() == []


@pytest.fixture
def faults(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """The empty account of `aws`, which fails as told; pauses between tries are short."""
    retry_at_once(monkeypatch)
    return Faults(aws)
