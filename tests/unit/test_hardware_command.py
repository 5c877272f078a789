"""`golden hardware`."""

from __future__ import annotations

import pytest
from goldenami import cli
from goldenami.model.supported import hardware


@pytest.mark.parametrize(("word", "said"), [
    ("g55", "unknown family `g55`: did you mean `g5`?"),
    ("m9g", hardware.UNKNOWN), ("p6e-gb200", hardware.refusal("p6e-gb200")),
])
def test_a_wrong_word_is_refused(
    capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert cli.main(["hardware", word]) == 2
    assert said in capsys.readouterr().err


def test_the_list_needs_no_account(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hardware", "p6-b200", "trn1"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == hardware.refusal("p6-b200")
    assert [line.split() for line in lines[1:]] == [
        ["p6-b200", "emeraldrapids", "B200", "sm_100", "open", "required", "legacy-bios", "uefi"],
        ["trn1", "icelake-server", "Trainium", "-", "-", "legacy-bios"]]
