"""`golden selftest` in an account whose instances are machines: the steps `boot` and `local-disk`.

support/ec2/selftest_instances.py says what of an instance is real.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami_fleet.selftest.plan import STEPS
from goldenami_fleet.selftest.selftest_records import (
    SELFTEST_FILE,
    SelftestRecord,
    StepResult,
    StepState,
)
from support.builds import checkout
from support.ec2 import cloud, selftest_instances
from support.ec2.cloud import Cloud
from support.ec2.selftest_instances import BIOS, UEFI, Fault

LIMIT_S = 3600
FOLDER = "build/selftest"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the two builds, which the command has baked."""
    copy = checkout.copy(tmp_path_factory.mktemp("selftest") / "checkout")
    process = checkout.golden(copy, "selftest", "--emulated")
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    return copy


@pytest.fixture
def account(root: Path, tmp_path: Path) -> Iterator[Cloud]:
    work = tmp_path / "account"
    with cloud.running_account(root, work, None, [], selftest_instances) as account:
        try:
            yield account
        finally:
            (root / "faults").unlink(missing_ok=True)
            print((work / "instances.log").read_text(encoding="utf-8"))


def taken(root: Path, name: str) -> tuple[StepResult, dict[str, str]]:
    """A step of the last run, and what AWS did otherwise in it, by rule."""
    record = records.read(root / FOLDER / SELFTEST_FILE, SelftestRecord)
    step = next(step for step in record.steps if step.step == name)
    assert {row.step for row in record.deviations} <= {"boot", "local-disk"}, record.deviations
    assert record.left == ()
    return step, {row.rule: row.actual for row in record.deviations if row.step == name}


def nothing_runs(account: Cloud) -> None:
    for region, found in account.account().items():
        if region != "calls":
            states = {raw["State"]["Name"] for raw in found["instances"]}
            assert states <= {"terminated"}, region
            assert (found["volumes"], found["keys"], found["images"]) == ([], [], []), region


@pytest.mark.long
def test_an_ami_boots_under_both_firmwares_and_passes_its_checks(
    root: Path, account: Cloud
) -> None:
    account.golden("selftest")
    for name, of_boot in (
        ("boot", []),
        ("local-disk", ["metadata_has_the_key", "boots_under_uefi"]),
    ):
        step, differs = taken(root, name)
        assert (step.state, differs) == (StepState.SHOWN, {}), step.why
        assert set(step.rules) == {*STEPS[name].rules, *of_boot}
    nothing_runs(account)


FAULTS = {
    "firmware, metadata, boot code, local disk": (
        f"{UEFI} {Fault.OTHER_FIRMWARE}\n{UEFI} {Fault.NO_TOKEN}\n{BIOS} {Fault.NO_BOOT_CODE}\n"
        f"{UEFI} {Fault.NO_LOCAL_DISK}\n",
        {
            "boots_under_uefi": "bios",
            "metadata_wants_a_token": "200",
            "boots_under_bios": "SSH did not answer",
        },
        {"boots_under_uefi": "bios", "local_disk_has_its_model": "vda"},
    ),
    "silence, key": (
        f"{UEFI} {Fault.SILENT}\n{BIOS} {Fault.OTHER_KEY}\n",
        {
            "boots_under_uefi": "SSH did not answer",
            "metadata_has_the_key": "sshd answers and lets nobody in",
        },
        {"boots_under_uefi": "SSH did not answer"},
    ),
}
"""What goes wrong, and what is said of each rule, by `boot` and by `local-disk`."""


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_by_its_rule(
    root: Path, account: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    faults, *expected = FAULTS[name]
    (root / "faults").write_text(faults, encoding="utf-8")
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "300")
    account.golden("selftest", code=ExitCode.NOT_VERIFIED)
    for name_of_step, words in zip(("boot", "local-disk"), expected, strict=True):
        step, differs = taken(root, name_of_step)
        assert step.state is StepState.DIFFERS
        assert differs.keys() == words.keys(), differs
        for rule, word in words.items():
            assert word in differs[rule]
    nothing_runs(account)
