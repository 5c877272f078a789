"""Locks between processes: who is in whose way, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import locks, shell
from goldenami.core.locks import AT_ONCE, EXCLUSIVE, SHARED


@pytest.mark.parametrize(("first", "second", "together"), [
    (SHARED, SHARED, True), (SHARED, EXCLUSIVE, False), (EXCLUSIVE, SHARED, False), (EXCLUSIVE, EXCLUSIVE, False),
])
def test_who_is_in_whose_way(tmp_path: Path, first: int, second: int, together: bool) -> None:
    path = tmp_path / "folder/lock"
    with locks.hold(path, first):
        if together:
            locks.hold(path, second | AT_ONCE).close()
        else:
            with pytest.raises(BlockingIOError):
                locks.hold(path, second | AT_ONCE)
    locks.hold(path, second | AT_ONCE).close()


def test_a_program_that_was_started_meanwhile_does_not_hold_it(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "lock"):
        process = shell.start(["sleep", "60"], log=tmp_path / "log")
    locks.hold(tmp_path / "lock", EXCLUSIVE | AT_ONCE).close()
    shell.stop(process)
