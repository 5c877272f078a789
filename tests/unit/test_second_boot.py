"""A boot beside another one: what becomes of its failure, and of itself when nobody waits for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from checkout import processes
from conftest import need
from goldenami.build_records import Accel
from goldenami.errors import StageFailed
from goldenami.local import second_boot, vm


def config(folder: Path, **changes: object) -> vm.VmConfig:
    (folder / "key.pub").write_text("ssh-ed25519 AAAA x\n", encoding="utf-8")
    (folder / "disk.raw").write_bytes(b"\0" * (1 << 20))
    given = {"disk": folder / "disk.raw", "scratch": folder / "vm", "private_key": folder / "key", "user": "debian",
             "firmware": vm.Firmware.BIOS, "accelerator": Accel.TCG}
    (folder / "vm").mkdir()
    return vm.VmConfig(**{**given, **changes})  # type: ignore[arg-type]


def test_an_expected_failure_is_raised_with_the_firmware_s_name(tmp_path: Path) -> None:
    need("setpriv", "unshare", "ip")
    with second_boot.beside(config(tmp_path, memory_mib=4096)) as second, \
            pytest.raises(StageFailed, match=r"^bios: SeaBIOS cannot boot from NVMe with 4096 MiB") as caught:
        second.outcome()
    assert "at most 2560 MiB" in caught.value.hint


def test_a_boot_that_breaks_off(tmp_path: Path) -> None:
    need("setpriv", "unshare", "ip")
    with second_boot.beside(config(tmp_path)) as second:
        os.kill(second.process.pid, signal.SIGKILL)
        with pytest.raises(StageFailed, match=r"^bios: the boot broke off with status -9"):
            second.outcome()


def test_nobody_waits_for_it(tmp_path: Path) -> None:
    """Its block ends while it boots a disk with nothing on it: its machine is gone too."""
    need("qemu-system-x86_64", "setpriv", "unshare", "ip")
    machine = str(tmp_path / "vm/root.qcow2")
    with second_boot.beside(config(tmp_path)):
        deadline = time.monotonic() + 60
        while not processes(machine) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes(machine)
    deadline = time.monotonic() + 10
    while processes(machine) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes(machine)
