"""Boot a disk in QEMU as if on EC2: NVMe root, Amazon's SMBIOS, metadata by token, SSH by the key
from there.

It runs in a network namespace without links that the caller made. 169.254.169.254 goes on its
loopback, where QEMU's user mode network finds the metadata service. The guest's writes go to an
overlay in the scratch folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from goldenami.core import clock, shell
from goldenami.core.errors import HostNotReady, NotVerified, StageFailed
from goldenami.core.records import Record
from goldenami.core.wait import wait_until
from goldenami.local.host import host_tools
from goldenami.local.machine import ssh
from goldenami.local.vm import imds
from goldenami.model.builds.build_records import Accel

SSH_PORT = 2222
"""Port on the namespace's loopback, which nobody else uses."""
FIRST_SIGNS = re.compile(r"Linux version \d|systemd\[1\]: |login: ")
"""Any of them on the serial console proves a running kernel, even with `quiet` on its command
line."""
DEAD_ENDS = re.compile(
    r"Kernel panic - not syncing.*|No bootable device|BdsDxe: No bootable option.*|Shell> |"
    r"grub rescue>|error: no such device.*|\(initramfs\) |You are in emergency mode|"
    r"golden: .*: the boot stops here"
)
"""Console lines after which no waiting will help."""
WRONG_CLOCK = re.compile(r"tsc: (PIT calibration deviates from .*|HPET/PMTIMER calibration failed)")
"""Linux measures the TSC against the PIT, and on a busy host gets it wrong (seen: 43 MHz of 2,445).
With `tsc=reliable` the machine's clock then runs too fast by that factor, and each limit of a unit
is over at once."""
CLOCK_TRIES = 20
"""Most boots. Each failed one takes some seconds, since the kernel measures first of all."""
MEMORY_MIB, CPUS = 2048, 2
"""SeaBIOS 1.16 on q35 finds no NVMe disk in guests with more than 2560 MiB."""
KVM_LIMIT_S = 20.0
"""Seconds to a kernel's first words. It takes 2-4 under KVM; a host that cannot run one stays
silent for ever."""
IMDS_LIMIT_S = 60.0
USUAL_BOOT_S = 60.0
"""Seconds of a usual boot (25-60 under emulation on idle cores). Limits grow with a longer one."""
LONGEST_BOOT = 6
"""Factor by which a boot may exceed its limit while its console goes on: one that never ends
repeats itself."""
POWER_OFF_LIMIT_S = 90.0
"""Seconds for a clean power-off (5-15 under emulation; systemd gives one stuck unit 90)."""
POLL_S = 0.25
_POWER_BUTTON = b'{"execute": "qmp_capabilities"}\n{"execute": "system_powerdown"}\n'
"""QEMU's machine protocol. Nobody reads its answers, because the guest ends or does not."""


class Firmware(StrEnum):
    """Firmware that the machine starts with."""

    BIOS = "bios"
    UEFI = "uefi"


class VmConfig(Record):
    """One boot. `size_bytes` is the disk's size as the guest sees it (0: as it is). `cpu` is QEMU's
    -cpu under emulation (from cpu.py); KVM has the host's."""

    disk: Path
    scratch: Path
    private_key: Path
    user: str
    firmware: Firmware
    accelerator: Accel
    size_bytes: int = 0
    cpu: str = "max"
    instance_id: str = "i-0123456789abcdef0"
    ssh_limit_s: float = 300.0
    user_data: str | None = None
    days_ahead: int = 0

    @property
    def overlay(self) -> Path:
        """The file with the machine's writes; it exists as long as the machine."""
        return self.scratch / "root.qcow2"

    @property
    def public_key(self) -> str:
        return self.private_key.with_suffix(".pub").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Machine:
    """A machine that answers on SSH. `ssh_config` makes `ssh -F FILE golden` and testinfra reach
    it."""

    ssh_config: Path
    pid: int
    seconds_to_ssh: float
    serial_log: Path
    process: subprocess.Popen[bytes]
    monitor: socket.socket

    def ssh(self, *command: str, timeout_s: float = 120.0) -> str:
        """Return the command's output. Raises CommandFailed if it fails, HostNotReady without an
        answer."""
        try:
            return ssh.run(self.ssh_config, *command, timeout_s=self.limit_s(timeout_s))
        except shell.CommandFailed:
            raise
        except StageFailed as error:
            raise HostNotReady(
                f"{error.message}: {host_tools.business(self.serial_log.parent)}",
                tail=error.tail,
                log=self.serial_log,
                hint="run it again when the host is idle",
            ) from None

    def limit_s(self, usual_s: float) -> float:
        """Return the seconds for what takes at most `usual_s` on an idle host."""
        return usual_s * max(1.0, self.seconds_to_ssh / USUAL_BOOT_S)


@contextlib.contextmanager
def running(config: VmConfig) -> Iterator[Machine]:
    """Boot `config.disk`, yield the machine once SSH lets the metadata's key in, and power it off
    afterwards.

    Raises HostNotReady for a host without tools or space, StageFailed with the console's last lines
    if the boot ends in something else. QEMU and the metadata service die with this process.
    """
    _check_namespace()
    config.scratch.mkdir(parents=True, exist_ok=True)
    imds_log = config.scratch / "imds.log"
    imds_log.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        _metadata_service(config, imds_log, stack)
        ssh_config = _write_ssh_config(config)
        stack.callback(ssh.hang_up, ssh_config)
        machine = _booted(config, ssh_config, stack)
        yield machine
        power_off(machine)


def _booted(config: VmConfig, ssh_config: Path, stack: contextlib.ExitStack) -> Machine:
    """Boot until SSH answers; try again if the kernel measured its clock wrong."""
    serial = config.scratch / "serial.log"
    for tries_left in reversed(range(CLOCK_TRIES)):
        with contextlib.ExitStack() as attempt:
            serial.unlink(missing_ok=True)
            # A pair has no path: nothing to collide, to clean up, or to exceed 108 characters.
            ours, theirs = socket.socketpair()
            attempt.enter_context(ours)
            attempt.enter_context(theirs)
            begin = time.monotonic()
            process = _start(config, serial, theirs, attempt)
            try:
                wait_for_ssh(process, ssh_config, serial, limit_s=config.ssh_limit_s)
            except WrongClock:
                if tries_left:
                    continue
                raise
            stack.push(attempt.pop_all())
            return Machine(
                ssh_config=ssh_config,
                pid=process.pid,
                seconds_to_ssh=time.monotonic() - begin,
                serial_log=serial,
                process=process,
                monitor=ours,
            )
    raise AssertionError("the last try returns or raises")


class WrongClock(HostNotReady):
    """The host was too busy while the kernel measured its clock: this boot says nothing."""


def power_off(machine: Machine) -> bool:
    """Press the power button. Return True if the guest went down by itself; else kill it."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        machine.monitor.sendall(_POWER_BUTTON)
    try:
        return machine.process.wait(timeout=machine.limit_s(POWER_OFF_LIMIT_S)) == 0
    except subprocess.TimeoutExpired:
        machine.process.kill()
        machine.process.wait()
        return False


def kvm_works(disk: Path, scratch: Path) -> bool:
    """Return whether this host's /dev/kvm runs the kernel of `disk`: some run SeaBIOS and a boot
    sector, but no Linux."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return speaks(disk, scratch, Accel.KVM, limit_s=KVM_LIMIT_S)


def speaks(disk: Path, scratch: Path, accelerator: Accel, *, limit_s: float) -> bool:
    """Return whether the kernel of `disk` shows on the serial console within `limit_s` seconds."""
    scratch.mkdir(parents=True, exist_ok=True)
    serial, log = scratch / "probe.log", scratch / "probe-qemu.log"
    for stale in (serial, log):
        stale.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        overlay = _overlay(disk, scratch / "probe.qcow2", 0, stack)
        process = shell.start(
            [*_machine(accelerator), *_root_disk(overlay), "-serial", f"file:{serial}"],
            log=log,
        )
        stack.callback(shell.stop, process)

        def spoke() -> bool | None:
            if FIRST_SIGNS.search(_read(serial)):
                return True
            return False if process.poll() is not None or "internal error" in _read(log) else None

        return wait_until(spoke, limit_s, POLL_S) or False


def wait_for_ssh(
    process: subprocess.Popen[bytes], ssh_config: Path, serial: Path, *, limit_s: float
) -> None:
    """Return once `ssh -F ssh_config golden` works, which may take `limit_s` seconds from the
    console's last sign of life.

    Raises NotVerified at a dead end of the boot, WrongClock, or HostNotReady if the boot says
    nothing of the disk: the host ended QEMU, or gave the machine too little time.
    """
    boot = _Boot(process, ssh_config, serial, limit_s)
    if wait_until(boot.let_in, limit_s * LONGEST_BOOT, POLL_S):
        return
    tail = shell.last_lines(_read(serial)) or _read(serial.with_name("qemu.log"))
    if boot.is_dead_end:
        raise NotVerified(
            boot.cause,
            tail=tail,
            log=serial,
            hint="the serial console's last lines show how far it came",
        )
    raise HostNotReady(
        f"{boot.cause}: {host_tools.business(serial.parent)}",
        tail=tail,
        log=serial,
        hint=f"run it again when the host is idle, or with a larger {ssh.LIMIT}; "
        "if it was idle, the serial console's last lines show how far the boot came",
    )


class _Boot:
    """A boot that is waited for: why SSH has not answered yet, and whether the disk is why."""

    def __init__(
        self, process: subprocess.Popen[bytes], ssh_config: Path, serial: Path, limit_s: float
    ) -> None:
        self._process, self._ssh_config, self._serial = process, ssh_config, serial
        self._limit_s = limit_s
        self._shown, self._deadline = 0, time.monotonic() + limit_s
        self.cause, self.is_dead_end = f"SSH did not answer within {limit_s:.0f} s", False

    def let_in(self) -> bool | None:
        """Return True once SSH lets the key in, False if it will not, None while that is open."""
        if self._process.poll() is not None:
            # Status 0: the machine powered off, or wanted to reboot.
            return self._end(
                f"QEMU ended with status {self._process.returncode}",
                is_dead_end=self._process.returncode == 0,
            )
        console = _read(self._serial)
        if wrong := WRONG_CLOCK.search(console):
            raise WrongClock(
                f"the machine's clock is wrong: {wrong[0]}: "
                f"{host_tools.business(self._serial.parent)}",
                log=self._serial,
                hint="run it again when the host is less busy",
            )
        if end := DEAD_ENDS.search(console):
            return self._end(f"the boot ended in: {end[0].strip()}", is_dead_end=True)
        # A console that goes on is a sign of life: the limit begins anew.
        if len(console) > self._shown:
            self._shown, self._deadline = len(console), time.monotonic() + self._limit_s
        if ssh.answers("127.0.0.1", SSH_PORT):
            refusal = ssh.login(self._ssh_config, self._deadline)
            if refusal is None:
                return True
            self.cause = f"sshd answers and lets nobody in: {refusal}"
        return None if time.monotonic() < self._deadline else False

    def _end(self, cause: str, *, is_dead_end: bool) -> bool:
        self.cause, self.is_dead_end = cause, is_dead_end
        return False


def _check_namespace() -> None:
    """Refuse a namespace that leads anywhere: on a host's own network the metadata address may be
    real."""
    routes = Path("/proc/self/net/route").read_text(encoding="utf-8").splitlines()[1:]
    if routes:
        raise HostNotReady(
            f"this network namespace has routes (by {routes[0].split()[0]})",
            hint="a machine boots in a namespace of its own: `unshare --net --mount --pid --fork`",
        )


def _dying_with_us(argv: Sequence[str]) -> list[str]:
    """Return `argv` wrapped so that the kernel kills it when the thread that starts it ends."""
    return [shell.require("setpriv", "util-linux"), "--pdeathsig", "KILL", "--", *argv]


def _metadata_service(config: VmConfig, log: Path, stack: contextlib.ExitStack) -> None:
    ip = shell.require("ip", "iproute2")
    shell.output([ip, "link", "set", "lo", "up"])
    shell.output([ip, "address", "replace", f"{imds.ADDRESS}/32", "dev", "lo"])
    settings, service_log = config.scratch / "imds.json", config.scratch / "imds-service.log"
    instance = imds.Instance(
        log=str(log),
        public_key=config.public_key,
        instance_id=config.instance_id,
        user_data=config.user_data,
    )
    settings.write_text(json.dumps(dataclasses.asdict(instance)), encoding="utf-8")
    process = shell.start(
        _dying_with_us(shell.python_argv("goldenami.local.vm.imds", str(settings))),
        log=service_log,
        env=shell.python_env(),
    )
    stack.callback(shell.stop, process)

    def serves() -> bool | None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((imds.ADDRESS, imds.PORT), timeout=1),
        ):
            return True
        return None if process.poll() is None else False

    if not wait_until(serves, IMDS_LIMIT_S, 0.05):
        raise HostNotReady(
            f"the metadata service did not start within {IMDS_LIMIT_S:.0f} s: "
            f"{host_tools.business(settings.parent)}",
            tail=_read(service_log),
            log=service_log,
            hint="run it again when the host is idle",
        )


def _identity(config: VmConfig) -> list[str]:
    """Return SMBIOS options as Nitro shows them: cloud-init takes a machine for EC2 by a UUID and
    serial that begin with `ec2`."""
    digits = f"ec2{config.instance_id.removeprefix('i-'):0<29}"
    serial = str(uuid.UUID(digits[:32]))
    uefi = ",uefi=on" if config.firmware is Firmware.UEFI else ""
    return [
        "-uuid",
        serial,
        "-smbios",
        f"type=0,vendor=Amazon EC2,version=1.0,date=10/16/2017{uefi}",
        "-smbios",
        f"type=1,manufacturer=Amazon EC2,product={imds.INSTANCE_TYPE},"
        f"serial={serial},uuid={serial}",
        "-smbios",
        "type=3,manufacturer=Amazon EC2,asset=Amazon EC2",
    ]


def _start(
    config: VmConfig, serial: Path, monitor: socket.socket, stack: contextlib.ExitStack
) -> subprocess.Popen[bytes]:
    overlay = _overlay(config.disk, config.overlay, config.size_bytes, stack)
    argv = [
        *_machine(config.accelerator, config.cpu),
        *_firmware(config, stack),
        *_root_disk(overlay),
        *_identity(config),
        "-netdev",
        f"user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22",
        "-device",
        "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:12:34:56",
        "-device",
        "virtio-rng-pci",
        "-serial",
        f"file:{serial}",
        "-chardev",
        f"socket,id=qmp,fd={monitor.fileno()}",
        "-mon",
        "chardev=qmp,mode=control",
        *_clock(config.days_ahead),
    ]
    qemu, log = shell.Command(argv), config.scratch / "qemu.log"
    process = qemu.start(log=log, pass_fds=[monitor.fileno()])
    stack.callback(shell.stop, process)
    monitor.close()  # otherwise our own copy would hide that QEMU is gone
    return process


def _clock(days_ahead: int) -> list[str]:
    ahead = clock.now() + timedelta(days=days_ahead)
    return ["-rtc", f"base={ahead:%Y-%m-%dT%H:%M:%S}"] if days_ahead else []


def _machine(accelerator: Accel, cpu: str = "max") -> list[str]:
    """Return QEMU's argv with no device too many: each costs time. `graphics=off` lets SeaBIOS
    speak on the serial console."""
    acceleration = {
        Accel.KVM: ["-accel", "kvm", "-cpu", "host"],
        Accel.TCG: ["-accel", "tcg,thread=multi", "-cpu", cpu],
    }[accelerator]
    return _dying_with_us(
        [
            shell.require("qemu-system-x86_64", "qemu-system-x86"),
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-machine",
            "q35,vmport=off,graphics=off",
            *acceleration,
            "-m",
            str(MEMORY_MIB),
            "-smp",
            str(CPUS),
            "-display",
            "none",
        ]
    )


def _firmware(config: VmConfig, stack: contextlib.ExitStack) -> list[str]:
    """Return for UEFI the code and a copy of the empty variable store, which the guest writes."""
    if config.firmware is Firmware.BIOS:
        return []
    folder = Path("/usr/share/OVMF")
    code, template = folder / "OVMF_CODE_4M.fd", folder / "OVMF_VARS_4M.fd"
    if not code.is_file():
        raise HostNotReady(f"{code} is not there", hint="run `make setup` (Debian package ovmf)")
    variables = config.scratch / "uefi-variables.fd"
    shutil.copyfile(template, variables)
    stack.callback(variables.unlink, missing_ok=True)
    return [
        "-drive",
        f"if=pflash,format=raw,unit=0,readonly=on,file={code}",
        "-drive",
        f"if=pflash,format=raw,unit=1,file={variables}",
    ]


def _overlay(disk: Path, path: Path, size_bytes: int, stack: contextlib.ExitStack) -> Path:
    if not disk.is_file():
        raise StageFailed(f"{disk} does not exist", hint="run the stage that writes it first")
    stack.callback(path.unlink, missing_ok=True)
    shell.output(
        [
            shell.require("qemu-img", "qemu-utils"),
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            str(disk.resolve()),
            str(path),
            str(max(size_bytes, disk.stat().st_size)),
        ]
    )
    return path


def _root_disk(overlay: Path) -> list[str]:
    """Return the root as EBS shows it on Nitro: NVMe with a volume id for a serial number."""
    return [
        "-drive",
        f"if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,file={overlay}",
        "-device",
        "nvme,drive=root,serial=vol0123456789abcdef0,bootindex=0",
    ]


def _write_ssh_config(config: VmConfig) -> Path:
    return ssh.write_config(
        config.scratch, host="127.0.0.1", port=SSH_PORT, user=config.user, key=config.private_key
    )


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8", errors="replace").replace("\r", "")
    return ""
