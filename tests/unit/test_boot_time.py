"""Where a boot's time went, from what systemd and cloud-init of a booted machine say."""

from __future__ import annotations

import pytest
from goldenami.local.vm import boot_time

SAID = """UserspaceTimestampMonotonic=12000000

Id=cloud-init-network.service
InactiveExitTimestampMonotonic=30000000
ActiveEnterTimestampMonotonic=39000000

Id=ssh.service
InactiveExitTimestampMonotonic=39500000
ActiveEnterTimestampMonotonic=40000000

Id=cloud-config.service
InactiveExitTimestampMonotonic=41000000
ActiveEnterTimestampMonotonic=55000000

Id=never-started.service
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0

[    3.000000] Run /init as init process
"""
LOG = """2026-11-26 20:00:01,000 - handlers.py[DEBUG]: start: init-network/config-ssh: running config-ssh
2026-11-26 20:00:02,250 - handlers.py[DEBUG]: finish: init-network/config-ssh: SUCCESS: config-ssh ran successfully
2026-11-26 20:00:03,000 - handlers.py[DEBUG]: start: modules-final/config-scripts-user: running it
2026-11-26 20:00:03,010 - handlers.py[DEBUG]: finish: modules-final/config-scripts-user: SUCCESS: it ran successfully
2026-11-26 20:00:04,000 - handlers.py[DEBUG]: start: modules-final/config-phone-home: running, and never ended
"""


def test_units_are_those_that_began_before_ssh() -> None:
    assert [(unit.name, unit.seconds) for unit in boot_time.units(SAID)] == \
        [("cloud-init-network.service", 9.0), ("ssh.service", 0.5)]


def test_modules_are_those_that_took_time() -> None:
    assert [(module.name, module.seconds) for module in boot_time.modules(LOG)] == [
        ("init-network/config-ssh", 1.2)
    ]
    assert boot_time.modules("") == []


NO_INITRAMFS = SAID.replace("Run /init", "Run /sbin/init")


@pytest.mark.parametrize(("said", "seconds", "rate", "expected"), [
    (SAID, 48.0, 1.0, [6.0, 3.0, 9.0, 28.0, 2.0]),
    (SAID, 40.0, 1.0, [6.0, 3.0, 9.0, 22.0, 0.0]),  # a login before ssh started again
    (SAID, 18.0, 4.0, [6.0, 0.8, 2.2, 7.0, 2.0]),  # a clock that runs too fast
    (NO_INITRAMFS, 48.0, 1.0, [6.0, 12.0, 0.0, 28.0, 2.0]),
])
def test_parts_follow_one_another(
    said: str, seconds: float, rate: float, expected: list[float],
) -> None:
    found = boot_time.parts(said, firmware=6.0, seconds_to_ssh=seconds, rate=rate)
    names = ["firmware and loader", "kernel", "initramfs", "units", "first login"]
    assert [(part.name, part.seconds) for part in found] == list(zip(names, expected, strict=True))


def test_a_clock_that_runs_too_fast_is_known() -> None:
    first = boot_time.Moment(host=300.0, guest=1100.0)
    assert first.rate(boot_time.Moment(host=50.0, guest=100.0)) == 4.0
