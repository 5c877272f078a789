"""`latest`: it names a verified build, the newest that is one, or nothing."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, GoldenError, HostNotReady, NotVerified, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.verify import verify
from goldenami.local.disk import disk
from goldenami.local.machine import ssh
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import (
    REPORT_FILE,
    VERIFY_FILE,
    Accel,
    BuilderKind,
    Check,
    Outcome,
    Verdict,
)
from goldenami.model.builds.plans import VerifyResult
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from support.builds import builds
from support.builds.tools import need


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three verified builds, the last verified last; `latest` names it."""
    made = [builds.build(tmp_path, number) for number in (1, 2, 3)]
    for age, folder in enumerate(made):
        os.utime(folder / VERIFY_FILE, (1000 + age, 1000 + age))
    verify.point_latest(BuildFolder(made[-1]))
    return made


def fail(folder: Path) -> None:
    builds.write_verify(folder, verdict=Verdict.NOT_VERIFIED, checks=builds.wrong(builds.CHECKS[0]))
    verify.point_latest(BuildFolder(folder))


def latest(folder: Path) -> str | None:
    link = folder.parent / "latest"
    return link.readlink().name if link.is_symlink() else None


def test_a_build_that_fails_when_it_is_verified_again_is_not_the_latest_any_more(
    folders: list[Path],
) -> None:
    assert latest(folders[0]) == folders[2].name
    fail(folders[2])
    assert latest(folders[0]) == folders[1].name


def test_without_another_verified_build_nothing_is_the_latest(folders: list[Path]) -> None:
    for folder in folders[::-1]:
        fail(folder)
    assert latest(folders[0]) is None
    fail(folders[0])
    assert latest(folders[0]) is None


def test_another_build_that_fails_moves_nothing(folders: list[Path]) -> None:
    fail(folders[1])
    assert latest(folders[0]) == folders[2].name


def test_a_boot_that_comes_to_a_dead_end_takes_the_earlier_verdict_and_a_slow_host_does_not(
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk has an empty root: no loader, no kernel."""
    need("qemu-system-x86_64", "unshare", "setpriv", "systemd-nspawn")
    for name in ("proc", "dev"):
        (tmp_path / "root" / name).mkdir(parents=True)
    shell.output(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-E",
            f"offset={disk.ROOT_OFFSET}",
            "-d",
            str(tmp_path / "root"),
            str(folders[2] / "disk.raw"),
            "8M",
        ]
    )
    lock, _ = lockfile.read_copy(folders[2] / "lock.json")
    (folders[2] / REPORT_FILE).write_text("verified", encoding="utf-8")

    def again(limit: str) -> None:
        monkeypatch.setenv(ssh.LIMIT, limit)
        verify.run(
            tmp_path,
            BuildFolder(folders[2]),
            lock,
            Progress.of("verify", builds.IMAGE, CachePaths(tmp_path)),
            LocalBuilder(tmp_path),
        )

    too_early: list[tuple[str, type[GoldenError], str]] = [
        ("1 s", BadInput, "give seconds"),
        ("0.01", HostNotReady, r"SSH did not answer within 0 s: load [\d.]+ on \d+ processors"),
    ]
    for limit, error, said in too_early:
        with pytest.raises(error) as caught:
            again(limit)
        assert re.search(said, f"{caught.value.message} {caught.value.hint}")
        assert (folders[2] / REPORT_FILE).exists()
        assert (BuildFolder(folders[2]).is_verified, latest(folders[0])) == (True, folders[2].name)
    with pytest.raises(NotVerified, match="the boot ended in: No bootable device"):
        again("600")
    assert (folders[2] / "serial-bios.log").exists()
    assert not (folders[2] / VERIFY_FILE).exists() and not (folders[2] / REPORT_FILE).exists()
    assert latest(folders[0]) == folders[1].name


class Seen:
    """A builder whose boots have seen `checks`, or have come to `error`."""

    kind = BuilderKind.LOCAL

    def __init__(self, checks: list[Check], error: GoldenError | None = None) -> None:
        self.checks, self.error = checks, error

    def check_host(self) -> None:
        """A good one."""

    def check_build(self, build: BuildFolder) -> None:
        """A good one."""

    def verify(
        self, lock: Lock, build: BuildFolder, work: Path, log: Path, progress: Progress
    ) -> VerifyResult:
        (work / "serial-bios.log").write_text("of this boot", encoding="utf-8")
        if self.error:
            raise self.error
        return VerifyResult(accel=Accel.TCG, boots=[], checks=self.checks, hardening=None)


def outcome(*outcomes: Outcome) -> list[Check]:
    return [
        Check(id=f"a/{number}", role="a", title="A check", seconds=0.1, outcome=each)
        for number, each in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("seen", "error", "stays"),
    [
        (Seen(outcome(Outcome.CORRECT, Outcome.INCORRECT)), None, False),
        (Seen(outcome(Outcome.CORRECT, Outcome.MISSING)), None, False),
        (Seen(outcome(Outcome.INCORRECT, Outcome.UNREACHABLE)), None, False),
        (Seen(outcome(Outcome.CORRECT, Outcome.UNREACHABLE)), HostNotReady, True),
        (Seen([]), HostNotReady, True),
        (Seen([], StageFailed("broke off")), StageFailed, True),
        (Seen([], NotVerified("dead end")), NotVerified, False),
    ],
)
def test_only_a_check_that_was_wrong_takes_an_earlier_verdict(
    folders: list[Path],
    tmp_path: Path,
    seen: Seen,
    error: type[GoldenError] | None,
    stays: bool,
) -> None:
    build = BuildFolder(folders[2])
    kept = dict.fromkeys((REPORT_FILE, "serial-bios.log"), b"of the earlier one")
    for name, content in kept.items():
        (build.path / name).write_bytes(content)
    kept[VERIFY_FILE] = build.verify.read_bytes()
    lock, _ = lockfile.read_copy(build.lock)
    progress = Progress.of("verify", builds.IMAGE, CachePaths(tmp_path))
    with pytest.raises(error) if error else contextlib.nullcontext():
        verify.run(tmp_path, build, lock, progress, seen)  # type: ignore[arg-type]
    now = {name: (build.path / name).read_bytes() for name in kept if (build.path / name).exists()}
    assert (now == kept) is stays
    assert build.is_verified is stays
    assert latest(folders[0]) == folders[2 if stays else 1].name
    evidence = build.log("verify").parent if stays else build.path
    assert (evidence / "serial-bios.log").read_text() == "of this boot"


def test_a_build_that_never_passed_is_not_verified_by_checks_that_could_not_look(
    folders: list[Path],
    tmp_path: Path,
) -> None:
    fail(folders[2])
    lock, _ = lockfile.read_copy(folders[2] / "lock.json")
    seen = Seen(outcome(Outcome.CORRECT, Outcome.UNREACHABLE))
    record = verify.run(
        tmp_path,
        BuildFolder(folders[2]),
        lock,
        Progress.of("verify", builds.IMAGE, CachePaths(tmp_path)),
        seen,  # type: ignore[arg-type]
    )
    assert record.verdict is Verdict.NOT_VERIFIED
