"""Base system: nothing that updates itself, EC2's first boot."""

from __future__ import annotations

from typing import Any

import pytest

UPDATERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service")
# cloud-init has other units between its first and its last in other releases.
ENABLED = ("systemd-networkd.service", "systemd-resolved.service", "chrony.service",
           "cloud-init-local.service",
           "cloud-final.service")


@pytest.fixture(scope="module")
def facts(gather: Any) -> Any:
    return gather({
        "enabled": "systemctl is-enabled " + " ".join(ENABLED),
        "updaters": "systemctl is-enabled " + " ".join(UPDATERS),
        "apt": "apt-config dump",
        "reboot": "LC_ALL=C ls /run/reboot-required /run/reboot-required.pkgs",
        "wait-online": "systemctl cat systemd-networkd-wait-online.service | grep ^ExecStart= | tail -n 1",
        "policy": "test -e /usr/sbin/policy-rc.d",
        "locale": "locale 2>&1",
        "ssh": "mkdir -p /run/sshd; sshd -T",
    })


@pytest.fixture(scope="module")
def packages(gather: Any) -> Any:
    """What takes half a minute under emulation."""
    return gather({
        "broken": "dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev}\\n' | grep -v '^[ihr][ic] ' | sort -u",
        "environment": 'cd "$(mktemp -d)" && /usr/bin/python3 -m venv env && env/bin/python -m pip --version;'
                       ' status=$?; rm -r "$PWD"; exit $status',
        "upgradable": "apt-get --simulate --quiet --ignore-hold dist-upgrade | grep ^Inst",
        "sources": "cat /etc/apt/sources.list.d/golden-bake.sources",
    })


@pytest.fixture(scope="module")
def first_boot(gather: Any) -> Any:
    return gather({
        "status": "cloud-init status --long --wait",
        "datasource": "cloud-id; cat /run/cloud-init/cloud.cfg",
        "locale": "cat /etc/default/locale",
        "sources": "cat /etc/apt/sources.list /etc/apt/sources.list.d/*",
        "clock": "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
        "chrony": "chronyc -n sources",
        "pools": "grep -rhs ^pool /etc/chrony",
        "ssh": "journalctl --boot --output cat --unit ssh.service | grep ^Started",
    })


@pytest.mark.no_boot
def test_every_package_is_whole(packages: Any) -> None:
    assert packages["broken"].lines == []


@pytest.mark.no_boot
def test_everybody_can_make_an_environment_of_python_s(packages: Any) -> None:
    """No package can be added for it on an instance; Debian's python3 alone has no ensurepip."""
    assert packages["environment"].status == 0, packages["environment"].text
    assert packages["environment"].text.startswith("pip ")


@pytest.mark.at_rest
def test_nothing_is_upgradable(packages: Any) -> None:
    """Against the bake's indexes, which a sealed image has lost: there, provenance looked before
    they went."""
    assert packages["sources"].status == 0, "no index to compare with"
    assert packages["upgradable"].lines == []


def test_units_of_an_instance_are_enabled(facts: Any) -> None:
    assert facts["enabled"].lines == ["enabled"] * len(ENABLED)


def test_nothing_updates_itself(facts: Any) -> None:
    assert facts["updaters"].lines == ["masked"] * len(UPDATERS)
    assert 'APT::Periodic::Enable "0";' in facts["apt"].lines
    assert 'APT::Periodic::Unattended-Upgrade "0";' in facts["apt"].lines


def test_apt_is_patient(facts: Any, lock: dict[str, Any]) -> None:
    assert f'Acquire::Retries "{lock["os_updates_apt_retries"]}";' in facts["apt"].lines
    assert f'DPkg::Lock::Timeout "{lock["os_updates_apt_lock_timeout_s"]}";' in facts["apt"].lines


def test_no_reboot_is_due(facts: Any) -> None:
    assert all("No such file" in line for line in facts["reboot"].lines)


def test_boot_waits_for_the_network_within_bounds(facts: Any, lock: dict[str, Any]) -> None:
    assert f"--timeout={lock['os_updates_wait_online_s']}" in facts["wait-online"].text
    assert "--any" in facts["wait-online"].text


def test_locale_works(facts: Any) -> None:
    assert "Cannot set" not in facts["locale"].text


def test_ssh_takes_no_password(facts: Any) -> None:
    assert "passwordauthentication no" in facts["ssh"].lines


def test_first_boot_starts_ssh_once(first_boot: Any, needs_boot: None) -> None:
    """A second start, of a cloud-init that changes sshd's options, resets logins."""
    assert len(first_boot["ssh"].lines) == 1, first_boot["ssh"].text


def test_cloud_init_is_done_without_errors(first_boot: Any, needs_boot: None) -> None:
    assert first_boot["status"].status == 0, first_boot["status"].text
    assert "status: done" in first_boot["status"].text


def test_first_boot_asked_ec2(first_boot: Any, needs_boot: None) -> None:
    assert first_boot["datasource"].lines[0] == "aws", first_boot["datasource"].text


def test_first_boot_wrote_the_distribution_s_sources(
    first_boot: Any, gather: Any, needs_boot: None
) -> None:
    name, release = gather({"system": ". /etc/os-release; echo $ID; echo $VERSION_CODENAME"})[
        "system"
    ].lines
    assert release in first_boot["sources"].text
    assert f"/{name}" in first_boot["sources"].text, "not the distribution's archive"
    assert "golden" not in first_boot["sources"].text and "file:" not in first_boot["sources"].text


def test_time_comes_from_the_locked_servers(
    first_boot: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    servers = lock["os_updates_ntp_servers"]
    asked = {line.split()[1] for line in first_boot["chrony"].lines if line.startswith("^")}
    assert set(servers) <= asked, first_boot["chrony"].text
    assert not (servers and first_boot["pools"].lines), first_boot["pools"].text
