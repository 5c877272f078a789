from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami_fleet.selftest.selftest_records import (
    SELFTEST_FILE,
    SELFTEST_PAGE,
    SelftestRecord,
    StepState,
)

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "build/selftest"


@pytest.mark.long
def test_the_life_of_an_image(tmp_path: Path) -> None:
    for name in (SELFTEST_FILE, SELFTEST_PAGE):
        (FOLDER / name).unlink(missing_ok=True)  # an earlier run's would answer for this one
    shell.Command(["make", "demo"], cwd=ROOT).stream(log=tmp_path / "demo.log")
    record = records.read(FOLDER / SELFTEST_FILE, SelftestRecord)
    assert record.emulated and record.is_whole
    states = {step.step: step.state for step in record.steps}
    unreachable = [step for step, state in states.items() if state is not StepState.SHOWN]
    assert unreachable == ["boot", "local-disk"], "instances of the emulator are no machines"
    assert {"publish", "refresh", "retire"} <= states.keys()
    page = (FOLDER / SELFTEST_PAGE).read_text(encoding="utf-8")
    assert record.headline in page and "; 0 deviations; " in record.headline
