"""Locks between processes."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import locks, shell
from goldenami.core.locks import AT_ONCE, EXCLUSIVE


def test_a_program_that_was_started_meanwhile_does_not_hold_it(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "lock"):
        process = shell.start(["sleep", "60"], log=tmp_path / "log")
    locks.hold(tmp_path / "lock", EXCLUSIVE | AT_ONCE).close()
    shell.stop(process)
