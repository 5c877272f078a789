"""A boot beside another one: what becomes of its failure, and of itself when nobody waits for
it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.local.vm import second_boot
from support.builds.boot_config import config
from support.builds.checkout import processes, programs
from support.builds.tools import need
from support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A disk with nothing on it, and the key of one who may log in."""
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA x\n", encoding="utf-8")
    (tmp_path / "disk.raw").write_bytes(b"\0" * (1 << 20))
    (tmp_path / "vm").mkdir()
    return tmp_path


def test_an_expected_failure_is_raised_with_the_firmware_s_name(folder: Path) -> None:
    need("setpriv", "unshare", "ip")
    with (
        second_boot.beside(config(folder, disk=folder / "lost.raw")) as other,
        pytest.raises(StageFailed, match=r"^bios: .*lost.raw does not exist") as caught,
    ):
        other.outcome()
    assert caught.value.hint == "run the stage that writes it first"


def test_a_boot_that_breaks_off(folder: Path) -> None:
    need("setpriv", "unshare", "ip")
    with second_boot.beside(config(folder)) as other:
        other.demand()
        os.kill(other.process.pid, signal.SIGKILL)
        with pytest.raises(HostNotReady, match=r"^bios: the boot broke off with status -9: load "):
            other.outcome()


def test_nobody_waits_for_it(folder: Path) -> None:
    """Its block ends while it boots a disk with nothing on it: its machine is gone too."""
    need("qemu-system-x86_64", "setpriv", "unshare", "ip")
    # Qemu-img, which is there for a moment, has the path alone.
    machine = f"file={folder / 'vm/root.qcow2'}"

    def booting() -> list[str]:
        other.demand()
        return programs(machine)

    with second_boot.beside(config(folder)) as other:
        until("a machine that boots", booting)
    until("no machine", lambda: not processes(machine))
