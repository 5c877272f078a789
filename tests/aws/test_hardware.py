"""`golden hardware --check` against an emulated EC2, which describes instance types as EC2 does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.model.supported import hardware
from support.aws.emulator import Emulator

ROOT = Path(__file__).resolve().parents[2]
Golden = Callable[..., tuple[int, str]]


@pytest.fixture
def golden(capsys: pytest.CaptureFixture[str]) -> Golden:
    """`golden hardware` with arguments: its exit status and messages."""
    def run(*args: str) -> tuple[int, str]:
        status = cli.main(["hardware", *args])
        said = capsys.readouterr()
        return status, said.out + said.err
    return run


def test_all_rows_agree_with_ec2_under_the_commands_policy(aws: Emulator, golden: Golden) -> None:
    policy = json.loads(
        (ROOT / "scripts/goldenami/aws/policies/hardware.json").read_text(encoding="utf-8")
    )
    aws.set(allowed={"*": [action for statement in policy["Statement"]
                           for action in statement["Action"]]})
    status, text = golden("--check", "us-east-1")
    assert status == 0, text
    assert re.match(r"\d{3} families \(\d+ instance types\) compared with EC2 in ", text)
    assert text.splitlines()[1] == "unreachable: not offered there: p3, g4ad"
    assert {action for action, _ in aws.calls()} == {"ec2:DescribeInstanceTypes"}


@pytest.mark.parametrize(("families", "lacking"), [(["p3"], "p3"), (["p3", "g5", "g4ad"], "p3, g4ad")])
def test_a_named_family_that_no_region_offers_is_not_compared(
    aws: Emulator, golden: Golden, families: list[str], lacking: str,
) -> None:
    status, text = golden(*families, "--check", "us-west-2", "--check", "eu-west-1")
    assert status == 4, text
    assert f"error: not compared, EC2 offers none in us-west-2, eu-west-1: {lacking}\n" in text


@pytest.mark.parametrize(("args", "said"), [
    (["g55"], "unknown family `g55`: did you mean `g5`?"),
    (["m9g"], hardware.UNKNOWN), (["p6e-gb200"], hardware.refusal("p6e-gb200")),
    (["--check", "us-wets-2"], "unknown region `us-wets-2`; did you mean `us-west-2`?"),
])
def test_a_wrong_word_is_refused(aws: Emulator, golden: Golden, args: list[str], said: str) -> None:
    status, text = golden(*args)
    assert (status, said in text) == (2, True), text
    assert aws.calls() == []


def test_without_permission_nothing_is_said_to_agree(aws: Emulator, golden: Golden) -> None:
    aws.set(denied={"*": ["ec2:DescribeInstanceTypes"]})
    status, text = golden("g5", "--check", "us-east-1")
    assert status == 8
    assert "may not call ec2:DescribeInstanceTypes" in text
    assert "compared" not in text


def test_the_list_needs_no_account(golden: Golden) -> None:
    status, text = golden("p6-b200", "trn1")
    assert status == 0
    assert text.splitlines()[-1] == hardware.refusal("p6-b200")
    assert [line.split() for line in text.splitlines()[1:-1]] == [
        ["p6-b200", "emeraldrapids", "B200", "sm_100", "open", "required", "legacy-bios", "uefi"],
        ["trn1", "icelake-server", "Trainium", "-", "-", "legacy-bios"]]
