"""Retirement through an API that throttles, fails and breaks off: every step is made, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.aws.session import Account
from goldenami.core.terminal.progress import Progress
from goldenami.release.retire import retire
from support.aws.emulator import Faults
from support.aws.retirement import prepare
from support.aws.seeded_account import IMAGE, Calendar, SeededAccount

pytestmark = pytest.mark.usefixtures("later")


@pytest.mark.parametrize("rule", [
    {"probability": 0.3, "error": {"code": "ThrottlingException"}},
    pytest.param({"probability": 0.2, "error": {"code": "InternalError", "status": 500}}, marks=pytest.mark.slow),
    pytest.param({"probability": 0.15, "reset": True}, marks=pytest.mark.slow),
], ids=["throttled", "500", "reset"])
def test_faults_that_pass_are_outlasted(
    account: SeededAccount, faults: Faults, calendar: Calendar, tmp_path: Path, rule: dict[str, Any],
) -> None:
    """Every step is made in spite of them, once."""
    old, newest = account.ami(1), account.ami(2)
    faulty = Account()  # the fixture's own goes past the faults
    faults.add("*", **rule)
    for _ in range(3):
        prepared = prepare(faulty, [account.region])
        assert not prepared.unreachable
        retire.execute(faulty, prepared, tmp_path, Progress("retire", IMAGE, tmp_path / "timings"))
        calendar.days += 8
    assert faults.fired()
    faults.clear()
    assert old not in account.amis()
    assert account.snapshots() == {account.backing(newest)}
    assert account.parameters() == {account.record(2): newest}
