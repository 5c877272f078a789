"""What a boot refuses and how it ends, without a guest. Images boot in `verify`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import HostNotReady, NotVerified
from goldenami.local.vm import vm
from goldenami.model.builds.build_records import Accel
from support.builds.boot_config import config
from support.builds.checkout import processes, programs
from support.builds.tools import need
from support.waiting import until

MIB = 1 << 20


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a QEMU whose guest never comes up."""
    process = shell.start(["sleep", "60"], log=tmp_path / "sleep.log")
    yield process
    shell.stop(process)


def wait(process: subprocess.Popen[bytes], folder: Path, limit_s: float) -> None:
    settings = vm._write_ssh_config(config(folder, scratch=folder))
    vm.wait_for_ssh(process, settings, folder / "serial.log", limit_s=limit_s)


@pytest.mark.parametrize(
    "line",
    [
        "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs",
        "No bootable device.",
        "grub rescue> ",
        "error: no such device: 1ca12c3f.",
        "(initramfs) ",
        "You are in emergency mode. After logging in",
        "Shell> ",
    ],
)
def test_dead_end_is_the_cause(tmp_path: Path, sleeper: subprocess.Popen[bytes], line: str) -> None:
    (tmp_path / "serial.log").write_text(f"Booting\r\n{line}\r\n", encoding="utf-8")
    with pytest.raises(NotVerified, match="the boot ended in: ") as caught:
        wait(sleeper, tmp_path, 30)
    assert line.strip() in caught.value.tail
    assert caught.value.tail.startswith("Booting\n")


def test_silence_ends_with_the_console_s_tail(
    tmp_path: Path,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vm, "SSH_PORT", 1)
    (tmp_path / "serial.log").write_text("Reached target network\r\n", encoding="utf-8")
    with pytest.raises(
        HostNotReady, match=r"within 1 s: load \S+ on \d+ processors, .* free$"
    ) as caught:
        wait(sleeper, tmp_path, 1)
    assert caught.value.tail == "Reached target network"
    assert caught.value.log == tmp_path / "serial.log"


def test_a_boot_that_goes_on_has_time_from_its_last_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its console speaks each half second for 8 s, which is more than the limit of 5."""
    monkeypatch.setattr(vm, "SSH_PORT", 1)
    serial, says = tmp_path / "serial.log", "for n in $(seq 16); do echo $n; sleep 0.5; done"
    process = shell.start(["sh", "-c", f"{says}; echo No bootable device; sleep 60"], log=serial)
    with pytest.raises(NotVerified, match="No bootable device"):
        wait(process, tmp_path, 5)
    shell.stop(process)


def test_a_clock_that_a_busy_host_made_wrong_is_no_verdict(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    line = "[    0.040000] tsc: PIT calibration deviates from HPET: 42843 2445453"
    (tmp_path / "serial.log").write_text(
        f"{line}\r\nKernel panic - not syncing\r\n", encoding="utf-8"
    )
    with pytest.raises(vm.WrongClock, match=r"deviates from HPET: 42843 2445453: load \S+ on \d+ "):
        wait(sleeper, tmp_path, 30)


def test_a_machine_that_powers_off_before_ssh_is_the_disk_s_fault(tmp_path: Path) -> None:
    process = shell.start(["true"], log=tmp_path / "qemu.log")
    process.wait()
    with pytest.raises(NotVerified, match="QEMU ended with status 0"):
        wait(process, tmp_path, 30)


def test_dead_qemu_is_noticed_with_its_words(tmp_path: Path) -> None:
    process = shell.start(
        ["sh", "-c", "echo 'could not open disk' >&2; exit 3"], log=tmp_path / "qemu.log"
    )
    process.wait()
    with pytest.raises(HostNotReady, match="QEMU ended with status 3") as caught:
        wait(process, tmp_path, 30)
    assert "could not open disk" in caught.value.tail


def test_sshd_that_lets_nobody_in(
    tmp_path: Path,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("ssh")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(vm, "SSH_PORT", server.getsockname()[1])

        def answer() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.sendall(b"SSH-2.0-nobody\r\n")

        threading.Thread(target=answer, daemon=True).start()
        said = r"(ssh exited with status 255|no answer in \d s)"  # the last try has 1 s
        with pytest.raises(HostNotReady, match=f"sshd answers and lets nobody in: {said}"):
            wait(sleeper, tmp_path, 2)
        server.shutdown(socket.SHUT_RDWR)


def test_namespace_that_leads_somewhere(tmp_path: Path) -> None:
    if len(Path("/proc/self/net/route").read_text(encoding="utf-8").splitlines()) < 2:
        pytest.skip("this machine has no route")
    with pytest.raises(HostNotReady, match="has routes"), vm.running(config(tmp_path)):
        pass


def test_power_off_that_nobody_hears(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "POWER_OFF_LIMIT_S", 0.2)
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        machine = vm.Machine(
            ssh_config=tmp_path / "x",
            pid=sleeper.pid,
            seconds_to_ssh=0,
            serial_log=tmp_path / "x",
            process=sleeper,
            monitor=ours,
        )
        assert not vm.power_off(machine)
    assert sleeper.poll() == -9


def test_long_scratch_does_without_a_shared_connection(tmp_path: Path) -> None:
    short = vm._write_ssh_config(config(tmp_path, scratch=Path(os.path.relpath(tmp_path))))
    assert f"ControlPath {tmp_path}/ssh" in short.read_text(encoding="utf-8").replace('"', "")
    scratch = tmp_path / ("x" * 90)
    scratch.mkdir()
    assert "ControlPath" not in vm._write_ssh_config(config(tmp_path, scratch=scratch)).read_text(
        encoding="utf-8"
    )


# --- a boot sector is enough for these ---


def boot_sector(disk: Path, text: str) -> None:
    """A disk that prints `text` on the serial port, byte by byte, and halts.

    xor ax,ax; mov ds,ax; mov si,text; mov dx,0x3f8; next: lodsb; test al,al; jz halt; out dx,al;
    jmp next; halt: hlt; jmp halt
    """
    code = bytes.fromhex("31c08ed8be157cbaf803ac84c07403eeebf8f4ebfd") + text.encode() + b"\0"
    disk.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + b"\0" * MIB)


def test_kernel_s_first_words_are_heard(tmp_path: Path) -> None:
    need("qemu-system-x86_64", "setpriv")
    boot_sector(tmp_path / "disk.raw", "[    0.0] Linux version 6.1\r\n")
    before = (tmp_path / "disk.raw").read_bytes()
    assert vm.speaks(tmp_path / "disk.raw", tmp_path / "probe", Accel.TCG, limit_s=120)
    assert (tmp_path / "disk.raw").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "probe").iterdir()) == [
        "probe-qemu.log",
        "probe.log",
    ]


# --- kill -9 ---

BOOT = """
import sys
from pathlib import Path
from goldenami.local.vm import vm
from goldenami.model.builds.build_records import Accel
folder = Path(sys.argv[1])
with vm.running(vm.VmConfig(
    disk=folder / "disk.raw", scratch=folder / "vm", private_key=folder / "key", user="debian",
    firmware=vm.Firmware.BIOS, accelerator=Accel.TCG,
)):
    pass
"""


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    need("qemu-system-x86_64", "setpriv", "unshare", "ip")
    boot_sector(tmp_path / "disk.raw", "hello\r\n")
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA x\n", encoding="utf-8")
    # A network namespace only: no pid namespace helps here, as it would in a real boot.
    process = shell.start(
        ["unshare", "--net", sys.executable, "-c", BOOT, str(tmp_path)],
        log=tmp_path / "boot.log",
        env=shell.python_env(),
    )
    machine, metadata = f"file={tmp_path / 'vm/root.qcow2'}", str(tmp_path / "vm/imds.json")
    until(
        "the metadata service and a machine that boots",
        lambda: programs(machine) and programs(metadata),
    )
    process.kill()
    process.wait()
    until("neither of them", lambda: not processes(str(tmp_path / "vm")))
