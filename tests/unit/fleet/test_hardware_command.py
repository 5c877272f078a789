"""`golden regions` of no image and no family."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami import cli
from goldenami.model.supported import hardware

ROOT = Path(__file__).resolve().parents[3]


def test_the_list_of_families_needs_no_account(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["regions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert hardware.refusal(ROOT, "p6-b200") in lines
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["p6-b200"] == [
        "emeraldrapids",
        "B200",
        "sm_100",
        "open",
        "required",
        "legacy-bios",
        "uefi",
    ]
    assert rows["trn1"] == ["icelake-server", "Trainium", "-", "-", "legacy-bios"]
