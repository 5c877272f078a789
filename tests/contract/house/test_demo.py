from __future__ import annotations

import re
from pathlib import Path

import pytest
from goldenami.core import shell

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.long
def test_the_life_of_an_image(tmp_path: Path) -> None:
    shell.Command(["make", "demo"], cwd=ROOT).stream(log=tmp_path / "demo.log")
    said = (tmp_path / "demo.log").read_text(encoding="utf-8")
    first, second = re.findall(r"build (\w{12}) is published in 2 regions", said)
    assert re.findall(r"`latest` is build (\w{12})", said) == [first, second], "back and forward"
    assert re.search(rf"the rest is in snap-\w+ \(build {first}", said), (
        "only the difference is sent"
    )
    assert said.count(f"({first}): used by ledger: the build to roll back to") == 3 * 2, (
        "retire says why it stays"
    )
