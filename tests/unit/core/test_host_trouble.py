"""A full disk and a wrong clock are named as such: what a tool or a mirror seems to do wrong is
this machine's."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core import shell
from goldenami.core.errors import ExitCode, GoldenError, StageFailed, Unreachable, with_cause
from goldenami.image.builders.local import LocalBuilder
from support.builds.tools import ROOT, need
from support.debian.debrepo import Package
from support.debian.resolver import Resolver

ESSENTIAL = Package("base", fields={"Essential": "yes", "Priority": "required"})
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


@contextlib.contextmanager
def full_disk(where: Path, size: str) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "golden-test", str(where)], check=True
    )
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def refused(resolver: Resolver) -> GoldenError:
    """What an update of the last root says, as the command line shows it."""
    root = resolver.root([ESSENTIAL], update=False)
    with full_disk(root.folder / "lists", "4k") as lists:
        (lists / "partial").mkdir()
        with pytest.raises(Unreachable) as caught:
            root.update()
    return with_cause(caught.value)


@of_root
def test_a_full_disk_is_not_the_mirrors_fault(resolver: Resolver) -> None:
    error = refused(resolver)
    assert (error.exit_code, "no space left on a disk: apt could" in error.message) == (
        ExitCode.HOST,
        True,
    )
    assert "free space (`make clean`)" in error.hint


@pytest.mark.parametrize(
    ("days", "code", "said"),
    [
        (-1, ExitCode.HOST, "clock is behind"),
        (-4000, ExitCode.HOST, "clock is behind"),
        (4000, ExitCode.UNREACHABLE, "it has expired, or this machine's clock is ahead"),
    ],
)
def test_a_wrong_clock_is_not_the_mirrors_fault(
    resolver: Resolver,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    code: ExitCode,
    said: str,
) -> None:
    need("faketime")
    root = resolver.root([ESSENTIAL], update=False)
    settings = root.folder / "apt.conf"
    settings.write_text(
        f"{settings.read_text(encoding='utf-8')}Acquire::Max-ValidTime 86400;\n", encoding="utf-8"
    )
    preload = subprocess.run(
        ["faketime", "2020-01-01", "printenv", "LD_PRELOAD"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    monkeypatch.setenv("LD_PRELOAD", preload)
    monkeypatch.setenv("FAKETIME", f"{days:+}d")
    with pytest.raises(Unreachable) as caught:
        root.update()
    error = with_cause(caught.value)
    assert (error.exit_code, said in error.message) == (code, True), error.message
    assert "the clock (`" in error.hint


@of_root
def test_a_tool_that_finds_a_disk_full_says_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the command ends, whatever failed below."""
    with full_disk(tmp_path / "small", "64k") as folder:
        argv = ["dpkg-deb", "--build", str(tmp_path / "package"), str(folder / "out.deb")]
        (tmp_path / "package/DEBIAN").mkdir(parents=True)
        (tmp_path / "package/DEBIAN/control").write_text(
            "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: x "
            "<x@example.org>\nDescription: x\n",
            "utf-8",
        )
        (tmp_path / "package/data").write_bytes(os.urandom(1 << 20))
        monkeypatch.setattr(
            LocalBuilder, "check_host", lambda _: shell.stream(argv, log=tmp_path / "log")
        )
        assert cli.main(["--root", str(ROOT), "bake", "debian-13-ml-cpu"]) == ExitCode.HOST
    said = capsys.readouterr().err
    assert "golden: error: no space left on a disk: dpkg-deb exited with status 2\n" in said
    assert (
        "golden: to do: free space (`make clean`), or set GOLDEN_CACHE to a larger disk\n" in said
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            Unreachable(
                "https://x: certificate verify failed: certificate is not yet valid (_ssl.c:1006)"
            ),
            ExitCode.HOST,
        ),
        (
            Unreachable(
                "https://x: certificate verify failed: certificate has expired (_ssl.c:1006)"
            ),
            ExitCode.UNREACHABLE,
        ),
        (
            StageFailed("x", tail="dpkg: error: failed to write (No space left on device)"),
            ExitCode.HOST,
        ),
        (StageFailed("x", tail="no space"), ExitCode.STAGE_FAILED),
    ],
)
def test_words_of_others(error: GoldenError, code: ExitCode) -> None:
    found = with_cause(error)
    assert (found.exit_code, bool(found.hint)) == (code, error.tail != "no space")
