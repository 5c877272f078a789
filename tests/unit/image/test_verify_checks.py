"""What verify asks a booted machine about its code and its CPU: answered here by files and commands
of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records, shell
from goldenami.local.checks import image_tests
from goldenami.local.programs import boot_checks, disk_at_rest
from goldenami.local.vm import cpu
from goldenami.model.builds.build_records import Check, CodeFile, CoverageRecord, Disk, Outcome
from goldenami.model.builds.plans import VerifyPlan
from goldenami.model.supported import instruction_sets


class LocalMachine:
    """Runs what the check would run over SSH; `sudo` is a script that runs its arguments."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        (folder / "bin/sudo").write_text('#!/bin/sh\nexec "$@"\n', encoding="utf-8")
        (folder / "bin/sudo").chmod(0o755)
        self._path = f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"

    def ssh(self, command: str, timeout_s: float = 60.0) -> str:
        call = shell.Command(["sh", "-c", command], env={"PATH": self._path})
        return call.output(timeout_s=timeout_s)


@pytest.fixture
def plan(tmp_path: Path) -> VerifyPlan:
    """A build whose gate read two files below a folder of this machine."""
    code = tmp_path / "opt/ml/a b"
    code.mkdir(parents=True)
    files = []
    for name in ("one.so", "two.so"):
        (code / name).write_text(name, encoding="utf-8")
        files.append(
            CodeFile(
                path=str(code / name)[1:],
                sha256=records.sha256_file(code / name),
                instructions=1,
                extensions={},
                sass=[],
                ptx=[],
            )
        )
    record = CoverageRecord(
        folders=[str(tmp_path / "opt/ml")[1:]],
        features=[],
        sm=[],
        files=files,
        findings=[],
        allowed={},
    )
    records.write(tmp_path / "coverage.json", record)
    baked = Disk(
        path="disk.raw",
        bytes_apparent=0,
        bytes_allocated=0,
        sha256="0" * 64,
        blocks_sha256="0" * 64,
    )
    return VerifyPlan(
        work=tmp_path,
        log=tmp_path / "log",
        root=tmp_path,
        disk=tmp_path / "disk.raw",
        baked=baked,
        variables=tmp_path / "vars.json",
        coverage=tmp_path / "coverage.json",
        user="debian",
        roles=[],
        features=sorted(instruction_sets.KNOWN_X86),
        growth_bytes=0,
        boot_limit_s=60.0,
    )


def checks(plan: VerifyPlan, tmp_path: Path, emulated: cpu.Emulated | None = None) -> list[Check]:
    machine: Any = LocalMachine(tmp_path)
    return [*boot_checks.oldest_cpu(plan, machine, emulated), *disk_at_rest.code(plan, machine.ssh)]


def test_the_code_is_what_the_gate_read(plan: VerifyPlan, tmp_path: Path) -> None:
    assert [(check.id, check.outcome) for check in checks(plan, tmp_path)] == [
        ("boot/code", Outcome.CORRECT)
    ]


@pytest.mark.parametrize("lost", [False, True])
def test_other_code_on_the_machine_is_found(
    plan: VerifyPlan, tmp_path: Path, *, lost: bool
) -> None:
    path = tmp_path / "opt/ml/a b/two.so"
    if lost:
        path.unlink()
    else:
        path.write_text("another", encoding="utf-8")
    found = checks(plan, tmp_path)
    assert [(check.id, check.outcome) for check in found] == [("boot/code", Outcome.INCORRECT)]
    assert found[0].detail == f"it read others: {str(path)[1:]}"


def test_a_library_that_the_gate_did_not_read_is_found_where_it_read_wheels_only(
    plan: VerifyPlan,
    tmp_path: Path,
) -> None:
    """A role may have brought it. The same bytes elsewhere were read, and what is no library is not
    asked for."""
    record, here = records.read(plan.coverage, CoverageRecord), LocalMachine(tmp_path)
    for name, text in (("copy.so.1", "one.so"), ("text.txt", "new")):
        (tmp_path / "opt/ml" / name).write_text(text, encoding="utf-8")
    (check,) = image_tests.code(record, here.ssh, complete=False)
    assert (check.id, check.outcome) == ("boot/code", Outcome.CORRECT)
    (tmp_path / "opt/ml/alien.so.2.1").write_text("new", encoding="utf-8")
    assert image_tests.code(record, here.ssh)[0].outcome is Outcome.CORRECT
    (check,) = image_tests.code(record, here.ssh, complete=False)
    assert (check.outcome, check.detail) == (
        Outcome.INCORRECT,
        f"it did not read {str(tmp_path)[1:]}/opt/ml/alien.so.2.1",
    )
    nothing = record.model_copy(update={"files": [], "folders": ["nosuch"]})
    assert image_tests.code(nothing, here.ssh, complete=False)[0].outcome is Outcome.CORRECT


def test_an_image_without_such_code_is_not_asked(plan: VerifyPlan, tmp_path: Path) -> None:
    record = records.read(plan.coverage, CoverageRecord)
    records.write(plan.coverage, record.model_copy(update={"files": []}))
    assert checks(plan, tmp_path) == []


def test_a_cpu_with_more_than_the_declared_ones_have_is_found(
    plan: VerifyPlan, tmp_path: Path
) -> None:
    emulated = cpu.Emulated("max", ())
    assert checks(plan, tmp_path, emulated)[0].outcome is Outcome.CORRECT
    (tmp_path / "bin/sudo").unlink()
    (tmp_path / "bin").rmdir()
    features = sorted(instruction_sets.KNOWN_X86 - {"sse3", "sse4.2"})
    found = checks(plan.model_copy(update={"features": features}), tmp_path, emulated)[0]
    assert (found.id, found.outcome) == ("boot/oldest_cpu", Outcome.INCORRECT)
    assert found.detail == "the machine also had sse3, sse4.2"
