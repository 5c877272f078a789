"""Where a boot's time goes: firmware, kernel, initramfs, units, the first login; and cloud-init by
module.

systemd's clock begins with the kernel, so what lies before it is the rest of the time since
power-on. An emulated machine on a busy host may take its clock's rate for a wrong one, and then it
runs too fast: all is scaled by the rate.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from goldenami.local.vm.vm import Machine
from goldenami.model.builds.build_records import BootTimes, Timing

SHOWN = 10
"""As many units and modules are kept, the slowest ones."""
_NOISE_S = 0.05
_ASK = ("systemctl show -p UserspaceTimestampMonotonic; echo; systemctl show -p "
        "Id,InactiveExitTimestampMonotonic,"
        "ActiveEnterTimestampMonotonic '*.service' '*.socket'; echo; sudo dmesg | grep -m1 -F "
        "'Run /init' || true")
"""An initramfs without systemd leaves its only trace in the kernel's log."""
_MODULES = "sudo grep -hE '(start|finish): (init|modules)[a-z-]*/' /var/log/cloud-init.log || true"
_MODULE = re.compile(r"^(?P<at>\S+ \S+) - .*(?P<what>start|finish): (?P<name>[\w-]+/[\w-]+)",
                     re.MULTILINE)
_SSH = ("ssh.service", "ssh.socket", "sshd.service")


@dataclass(frozen=True)
class Moment:
    """The same moment by two clocks, in seconds: since power-on by this host's, since the kernel's
    start by the machine's."""

    host: float
    guest: float

    def rate(self, earlier: Moment) -> float:
        """Seconds of the machine's clock in one of the host's, since then; 1 where no time went
        by."""
        return (
            (self.guest - earlier.guest) / (self.host - earlier.host)
            if self.host > earlier.host
            else 1.0
        )


def moment(machine: Machine) -> Moment:
    """Now."""
    guest = float(machine.ssh("cat /proc/uptime").split()[0])
    return Moment(time.monotonic() - machine.powered_on, guest)


def look(machine: Machine, earlier: Moment) -> BootTimes:
    """Ask a machine that has booted; `earlier` is a moment of it, the longer ago the better."""
    now = moment(machine)
    rate, said = now.rate(earlier), machine.ssh(_ASK)
    return BootTimes(parts=parts(said, now.host - now.guest / rate, machine.seconds_to_ssh, rate),
                     units=units(said, rate), modules=modules(machine.ssh(_MODULES), rate))


def parts(said: str, firmware: float, seconds_to_ssh: float, rate: float = 1.0) -> list[Timing]:
    """The parts of `seconds_to_ssh`, one after the other, the first of `firmware` seconds, of what
    the machine said.

    User data may have cloud-init start SSH again, after the first login: that login is then a part
    of `units`.
    """
    userspace = int(_first(r"^UserspaceTimestampMonotonic=(\d+)$", said) or 0) / 1e6 / rate
    initramfs = float(_first(r"^\[ *([\d.]+)\] Run /init", said) or 0) / rate
    ready = _ssh_ready(_units(said, rate)) or userspace
    moments = [0.0, firmware, firmware + (initramfs or userspace), firmware + userspace,
               min(max(firmware + ready, firmware + userspace), seconds_to_ssh), seconds_to_ssh]
    names = ("firmware and loader", "kernel", "initramfs", "units", "first login")
    return [Timing(name=name, seconds=round(max(0.0, end - begin), 1))
            for name, (begin, end) in zip(names, pairwise(moments), strict=True)]


def units(said: str, rate: float = 1.0) -> list[Timing]:
    """The slowest units that began before SSH was there, slowest first."""
    found = _units(said, rate)
    ready = _ssh_ready(found)
    return _slowest({name: active - began for name, began, active in found if began < ready})


def modules(log: str, rate: float = 1.0) -> list[Timing]:
    """cloud-init's slowest modules, slowest first, as `stage/module`."""
    began: dict[str, datetime] = {}
    seconds: dict[str, float] = {}
    for found in _MODULE.finditer(log):
        at = datetime.strptime(found["at"], "%Y-%m-%d %H:%M:%S,%f")
        if found["what"] == "start":
            began[found["name"]] = at
        elif found["name"] in began:
            seconds[found["name"]] = (at - began[found["name"]]).total_seconds() / rate
    return _slowest(seconds)


def line(times: BootTimes) -> str:
    """`loader 6 s, kernel 4, initramfs 9, ...`: each part by its last word."""
    shown = [f"{part.name.split()[-1]} {part.seconds:.0f}" for part in times.parts]
    return ", ".join(text if number else f"{text} s" for number, text in enumerate(shown))


def _first(pattern: str, said: str) -> str:
    found = re.search(pattern, said, re.MULTILINE)
    return found[1] if found else ""


def _units(said: str, rate: float) -> list[tuple[str, float, float]]:
    """(name, began, active), in seconds since the kernel's start, of each unit that was started."""
    found = []
    for block in said.split("\n\n"):
        fields = dict(row.split("=", 1) for row in block.splitlines() if "=" in row)
        began, active = (int(fields.get(f"{key}TimestampMonotonic") or 0) / 1e6 / rate
                         for key in ("InactiveExit", "ActiveEnter"))
        if "Id" in fields and 0 < began <= active:
            found.append((fields["Id"], began, active))
    return found


def _ssh_ready(found: list[tuple[str, float, float]]) -> float:
    """When SSH was there, or 0 where no unit of it is known."""
    return min((active for name, _, active in found if name in _SSH), default=0.0)


def _slowest(seconds: dict[str, float]) -> list[Timing]:
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return [Timing(name=name, seconds=round(took, 1)) for name, took in ordered[:SHOWN] if took
            >= _NOISE_S]
