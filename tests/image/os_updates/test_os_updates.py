"""Base system: nothing that updates itself, EC2's first boot."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

UPDATERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service")
# cloud-init has other units between its first and its last in other releases.
ENABLED = (
    "systemd-networkd.service",
    "systemd-resolved.service",
    "chrony.service",
    "cloud-init-local.service",
    "cloud-final.service",
)

FORGETS = "/usr/local/libexec/golden-fresh-cloud-init"
LEFT = (
    "scripts/per-boot/x",
    "handlers/x.py",
    "seed/nocloud/user-data",
    "instances/i-1/obj.pkl",
    "instances/i-1/scripts/x",
    "instances/i-1/cloud-config.txt",
    "sem/folder/x",
)
NOTES = (
    "sem/x.once",
    "instances/i-1/sem/consume_data",
    "data/instance-id",
    "data/previous-hostname",
)
PLANT = """
import json, pathlib, subprocess, sys, tempfile
program, left, notes = sys.argv[1], *map(json.loads, sys.argv[2:])
with tempfile.TemporaryDirectory() as folder:
    outside, cloud = pathlib.Path(folder, "outside"), pathlib.Path(folder, "cloud")
    for path in (outside, *(cloud / name for name in (*left, *notes))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (cloud / "sem/link").symlink_to(outside)
    (cloud / "data/previous-name").hardlink_to(outside)
    subprocess.run([program, cloud], check=True)
    files = (path for path in cloud.rglob("*") if path.is_symlink() or not path.is_dir())
    print(json.dumps(sorted(str(path.relative_to(cloud)) for path in files)))
"""
"""What cloud-init would run or read again, what it notes, and a folder with both, cleaned."""


@pytest.fixture(scope="module")
def apt(host: Any) -> list[str]:
    """apt's settings."""
    return list(host.check_output("apt-config dump").splitlines())


@pytest.mark.no_boot
def test_every_package_is_whole(host: Any) -> None:
    assert host.check_output("dpkg --audit") == ""
    states = host.check_output("dpkg-query -W -f %s", r"${db:Status-Abbrev}\n")
    assert {state for state in states.split() if not re.fullmatch("[ihr][ic]", state)} == set()


@pytest.mark.no_boot
def test_everybody_can_make_an_environment_of_python_s(host: Any) -> None:
    """No package can be added for it on an instance; Debian's python3 alone has no ensurepip."""
    said = host.check_output(
        'cd "$(mktemp -d)" && /usr/bin/python3 -m venv env && env/bin/python -m pip --version;'
        ' status=$?; rm -r "$PWD"; exit $status'
    )
    assert said.startswith("pip ")


@pytest.mark.at_rest
def test_nothing_is_upgradable(host: Any) -> None:
    """Against the bake's indexes, which a sealed image has lost: there, provenance looked before
    they went."""
    sources = host.file("/etc/apt/sources.list.d/golden-bake.sources")
    assert sources.exists, "no index to compare with"
    found = host.check_output("apt-get --simulate --quiet --ignore-hold dist-upgrade")
    assert [line for line in found.splitlines() if line.startswith("Inst")] == []


def test_units_of_an_instance_are_enabled(host: Any) -> None:
    assert [unit for unit in ENABLED if not host.service(unit).is_enabled] == []


def test_nothing_updates_itself(host: Any, apt: list[str]) -> None:
    assert [unit for unit in UPDATERS if not host.service(unit).is_masked] == []
    assert {'APT::Periodic::Enable "0";', 'APT::Periodic::Unattended-Upgrade "0";'} <= set(apt)


def test_apt_is_patient(apt: list[str], lock: dict[str, Any]) -> None:
    assert f'Acquire::Retries "{lock["os_updates_apt_retries"]}";' in apt
    assert f'DPkg::Lock::Timeout "{lock["os_updates_apt_lock_timeout_s"]}";' in apt


def test_no_reboot_is_due(host: Any) -> None:
    for path in ("/run/reboot-required", "/run/reboot-required.pkgs"):
        assert not host.file(path).exists, path


def test_boot_waits_for_the_network_within_bounds(host: Any, lock: dict[str, Any]) -> None:
    unit = host.check_output("systemctl cat systemd-networkd-wait-online.service")
    start = [line for line in unit.splitlines() if line.startswith("ExecStart=")][-1]
    assert f"--timeout={lock['os_updates_wait_online_s']}" in start
    assert "--any" in start and start.startswith("ExecStart=-"), "a late network fails the unit"


def test_locale_works(host: Any) -> None:
    assert "Cannot set" not in host.run("locale").stderr
    for path in ("/etc/default/locale", "/etc/locale.conf"):
        assert host.file(path).contains("^LANG=.*UTF-8"), path
    boot_links_it = host.run("grep -qrs '^L+ /etc/default/locale' /usr/lib/tmpfiles.d").succeeded
    assert host.file("/etc/default/locale").is_symlink or not boot_links_it


def test_ssh_takes_no_password(host: Any) -> None:
    said = host.check_output("mkdir -p /run/sshd; sshd -T")
    assert "passwordauthentication no" in said.splitlines()


def test_first_boot_starts_ssh_once(host: Any, needs_boot: None) -> None:
    """A second start, of a cloud-init that changes sshd's options, resets logins."""
    said = host.check_output("journalctl --boot --output cat --unit ssh.service").splitlines()
    assert len([line for line in said if line.startswith("Started")]) == 1, said


def test_cloud_init_is_done_without_errors(host: Any, needs_boot: None) -> None:
    status = host.run("cloud-init status --long --wait")
    assert status.rc == 0, status.stdout + status.stderr
    assert "status: done" in status.stdout


@pytest.fixture(scope="module")
def first_unit(host: Any) -> Any:
    """What of cloud-init starts first: one process of its own, or a stage for each unit."""
    names = host.check_output("ls /usr/lib/systemd/system").split()
    return host.service(
        next(name for name in ("cloud-init-main.service", ENABLED[3]) if name in names)
    )


@pytest.mark.no_boot
def test_cloud_init_starts_from_nothing(run_program: Any) -> None:
    """Its folder holds what earlier boots left; a person who was root could have left more."""
    kept = run_program(PLANT, FORGETS, json.dumps(LEFT), json.dumps(NOTES))
    assert kept == sorted(NOTES)


def test_first_unit_forgets_before_it_starts(host: Any, first_unit: Any) -> None:
    unit = host.check_output(f"systemctl cat {first_unit.name}").splitlines()
    assert f"ExecStartPre={FORGETS}" in unit and "RequiresMountsFor=/var/lib/cloud" in unit


def test_it_did_at_this_boot(first_unit: Any, needs_boot: None) -> None:
    ran = first_unit.systemd_properties["ExecStartPre"]
    assert f"path={FORGETS}" in ran and "status=0" in ran, ran


def test_first_boot_asked_ec2(host: Any, needs_boot: None) -> None:
    assert host.check_output("cloud-id") == "aws"


def test_sources_of_an_instance_are_the_distribution_s(host: Any, needs_boot: None) -> None:
    system = host.system_info
    sources = host.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/*").stdout
    assert system.codename in sources
    assert f"/{system.distribution}" in sources, "not the distribution's archive"
    assert "golden" not in sources and "file:" not in sources


def test_time_comes_from_the_locked_servers(
    host: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    servers, said = lock["os_updates_ntp_servers"], host.check_output("chronyc -n sources")
    asked = {line.split()[1] for line in said.splitlines() if line.startswith("^")}
    assert set(servers) <= asked, said
    pools = host.run("grep -rhs ^pool /etc/chrony").stdout
    assert not (servers and pools), pools
