"""Where a boot's time went, from what systemd and cloud-init of a booted machine say."""

from __future__ import annotations

from goldenami.local.vm import boot_time
from goldenami.model.builds.build_records import BootTimes

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


def test_parts_follow_one_another_and_add_up() -> None:
    found = boot_time.parts(SAID, firmware=6.0, seconds_to_ssh=48.0)
    assert {part.name: part.seconds for part in found} == {
        "firmware and loader": 6.0, "kernel": 3.0, "initramfs": 9.0, "units": 28.0, "first login": 2.0}
    assert sum(part.seconds for part in found) == 48.0


def test_a_login_before_ssh_started_again_is_within_the_units() -> None:
    found = boot_time.parts(SAID, firmware=6.0, seconds_to_ssh=40.0)
    assert {part.name: part.seconds for part in found} == {
        "firmware and loader": 6.0, "kernel": 3.0, "initramfs": 9.0, "units": 22.0, "first login": 0.0}


def test_a_clock_that_runs_too_fast_is_scaled() -> None:
    rate = boot_time.Moment(host=300.0, guest=1100.0).rate(boot_time.Moment(host=50.0, guest=100.0))
    assert rate == 4.0
    found = boot_time.parts(SAID, firmware=6.0, seconds_to_ssh=18.0, rate=rate)
    assert {part.name: part.seconds for part in found} == {
        "firmware and loader": 6.0, "kernel": 0.8, "initramfs": 2.2, "units": 7.0, "first login": 2.0}
    assert boot_time.units(SAID, rate)[0].seconds == 2.2
    assert boot_time.modules(LOG, 0.5)[0].seconds == 2.5


def test_a_kernel_without_an_initramfs_has_none() -> None:
    found = boot_time.parts(SAID.replace("Run /init", "Run /sbin/init"), firmware=6.0, seconds_to_ssh=48.0)
    assert {part.name: part.seconds for part in found}["kernel"] == 12.0
    assert {part.name: part.seconds for part in found}["initramfs"] == 0.0


def test_units_are_those_that_began_before_ssh() -> None:
    assert [(unit.name, unit.seconds) for unit in boot_time.units(SAID)] == \
        [("cloud-init-network.service", 9.0), ("ssh.service", 0.5)]


def test_modules_are_those_that_took_time() -> None:
    assert [(module.name, module.seconds) for module in boot_time.modules(LOG)] == [("init-network/config-ssh", 1.2)]
    assert boot_time.modules("") == []


def test_one_line_says_it() -> None:
    times = BootTimes(parts=boot_time.parts(SAID, 6.0, 48.0), units=[], modules=[])
    assert boot_time.line(times) == "loader 6 s, kernel 3, initramfs 9, units 28, login 2"
