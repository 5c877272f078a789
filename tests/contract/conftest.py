"""Fixtures of the tests that upload: a server of the EBS direct calls and a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ebs_sink import Sink
from uploads import Bench


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def bench(sink: Sink, tmp_path: Path) -> Bench:
    return Bench(sink, tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds: what is tested is that a block is tried again, not the wait."""
    from goldenami.aws import send

    monkeypatch.setattr(send, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda _self, _context: 0.01)
