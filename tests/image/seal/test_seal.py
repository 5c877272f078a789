"""Nothing of the bake or of one machine: at rest (a sealed container), and on the booted image what
must hold there.

The booted image has host keys, a machine-id, logs and a launch key again: made by its own first
boot.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

GONE = {
    "bake's apt source": "/etc/apt/sources.list.d/golden-bake* /etc/apt/apt.conf.d/99mmdebstrap /usr/sbin/policy-rc.d"
                         " /etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "packages": "/var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/* /var/cache/debconf/*-old",
    "histories": "/root/.*_history /home/*/.*_history /root/.lesshst /home/*/.lesshst /root/.viminfo /home/*/.viminfo",
    "caches": "/root/.cache/* /home/*/.cache/* /root/.nv /home/*/.nv",
    "credentials": "/root/.netrc /home/*/.netrc /root/.docker /home/*/.docker /root/.aws /home/*/.aws"
                   " /root/.git-credentials /etc/apt/auth.conf /etc/apt/auth.conf.d/* /root/.pypirc /root/.npmrc",
    "automation": "/root/.ansible /home/*/.ansible /tmp/ansible* /var/tmp/ansible* /tmp/packer* /var/tmp/.ansible*",
    "dumps and swap": "/core /root/core /var/crash/* /var/lib/systemd/coredump/* /swapfile /swap.img",
    "udev": "/etc/udev/rules.d/70-persistent-net.rules /etc/udev/rules.d/75-*net*",
    "driver builds": "/var/lib/dkms/*/*/build /var/lib/dkms/mok.* /var/lib/shim-signed/mok/* /etc/dkms/*.key",
    "machine's names": "/etc/nvme/hostnqn /etc/nvme/hostid /etc/ssl/private/ssl-cert-snakeoil.key",
}
"""Never there: neither at rest nor after a boot: shell patterns by kind."""

MADE_ANEW = {
    "backups": "/etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/*- /var/backups/*",
    "host keys": "/etc/ssh/ssh_host_*",
    "authorized keys": "/root/.ssh /home/*/.ssh /etc/ssh/authorized_keys*",
    "apt lists": "/var/lib/apt/lists/*_* /var/cache/apt/*.bin",
    "hostname": "/etc/hostname /etc/machine-info",
    "container engines": "/etc/docker/key.json /var/lib/docker/*",
    "leases": "/var/lib/dhcp/* /var/lib/dhcpcd/* /var/lib/NetworkManager/*",
    "seeds": "/var/lib/systemd/random-seed /var/lib/systemd/credential.secret",
    "cloud-init": "/var/lib/cloud/* /etc/netplan/50-cloud-init.yaml /etc/sudoers.d/90-cloud-init-users",
    "notebooks' secrets": "/var/lib/jupyterhub/*",
    "temporary files": "/var/tmp/* /var/tmp/.[!.]*",
}
"""Not there at rest. A boot makes some of them anew: then each has to be younger than the machine's
first boot."""
PRIVATE_KEYS = ("grep -rIlsE -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' {} --exclude-dir=cloud "
                "--exclude='ssh_host_*'")
"""-I: a key is text; gigabytes of libraries are not read to their ends."""
HUB_S_OWN_PORTS = ("8001", "8081")
"""The proxy's API and JupyterHub itself, on the loopback: tests/image/jupyterhub looks at the
addresses."""
FIRST_LOG_GRACE_S = 60
"""The first lines of a journal carry the clock as it was before it was set."""


@pytest.fixture(scope="module")
def facts(gather: Any) -> Any:
    return gather({
        **{kind: f"ls -d {patterns} 2>/dev/null" for kind, patterns in GONE.items()},
        **{kind: f"stat -c '%W %n' {patterns} 2>/dev/null" for kind, patterns in MADE_ANEW.items()},
        "boot-time": "grep ^btime /proc/stat",
        "boots": "journalctl --list-boots --quiet --no-pager | wc -l",
        "oldest": "journalctl --output=short-unix --quiet --no-pager | head -n 1 | cut -d . -f 1",
        "machine-id": "cat /etc/machine-id; stat -c %s /etc/machine-id",
        "dbus": "readlink -f /var/lib/dbus/machine-id",
        "logs": "find /var/log -type f -exec stat -c '%W %n' {} +",
        "shadow": "cut -d : -f 1,2 /etc/shadow", "gshadow": "cut -d : -f 1,2 /etc/gshadow",
        "passwd": "cut -d : -f 1,2 /etc/passwd",
        "names": "cat /etc/hosts /etc/resolv.conf",
        "resolv.conf": "readlink /etc/resolv.conf || stat -c %s /etc/resolv.conf",
        "private": PRIVATE_KEYS.format("/etc /root /home /var/lib"),
        "hostkeys-unit": "systemctl is-enabled golden-ssh-hostkeys.service",
    })


@pytest.fixture(scope="module")
def machine(gather: Any) -> Any:
    return gather({
        "state": "systemctl is-system-running --wait",
        "failed": "systemctl --failed --plain --no-legend",
        "sockets": "ss -Hlntup", "root": "findmnt -n -b -o SIZE,AVAIL,FSTYPE /",
        "disk": "lsblk -n -b -d -o SIZE /dev/$(lsblk -n -o PKNAME $(findmnt -n -o SOURCE /) | head -n 1)",
        "inodes": "df --output=ipcent / | tail -n 1", "swap": "cat /proc/swaps",
        "keys": "for home in $(cut -d : -f 6 /etc/passwd | sort -u); do f=$home/.ssh/authorized_keys;"
                " test -s $f && sed \"s|^|$f |\" $f; done; true",
        "hostkeys": "for key in /etc/ssh/ssh_host_*_key; do ssh-keygen -lf $key; stat -c %a $key; done",
        "root-login": "sshd -T | grep -iE '^(permitrootlogin|passwordauthentication|permitemptypasswords)'",
    })


@pytest.fixture
def first_boot_time(facts: Any, needs_boot: None) -> int:
    """Seconds since 1970 at which this machine first booted: the only boot's, or where the journal
    begins."""
    if int(facts["boots"].text) > 1:
        return int(facts["oldest"].text) - FIRST_LOG_GRACE_S
    return int(facts["boot-time"].text.split()[1]) - 1


@pytest.mark.parametrize("kind", GONE)
def test_no_trace_is_left(facts: Any, kind: str) -> None:
    assert facts[kind].lines == []


@pytest.mark.at_rest
@pytest.mark.parametrize("kind", MADE_ANEW)
def test_no_trace_is_left_at_rest(facts: Any, kind: str) -> None:
    assert facts[kind].lines == []


@pytest.mark.at_rest
def test_logs_are_gone(facts: Any) -> None:
    assert facts["logs"].lines == []


@pytest.mark.parametrize("kind", [*MADE_ANEW, "logs"])
def test_made_since_the_first_boot(facts: Any, first_boot_time: int, kind: str) -> None:
    """Born after the first boot: what the image brought along would be older."""
    answers = [line.split(" ", 1) for line in facts[kind].lines]
    assert [path for born, path in answers if int(born) < first_boot_time] == []


def test_machine_id_is_empty_at_rest_and_of_this_machine_when_booted(
    facts: Any, booted: bool
) -> None:
    """Empty, not missing: a missing one, or `uninitialized`, makes systemd reset every unit to its
    preset."""
    if booted:
        assert re.fullmatch(r"[0-9a-f]{32}", facts["machine-id"].lines[0])
    else:
        assert facts["machine-id"].lines == ["0"]
    assert facts["dbus"].text == "/etc/machine-id"


def test_every_password_is_locked(facts: Any) -> None:
    for name in ("shadow", "gshadow"):
        usable = [line for line in facts[name].lines if not re.fullmatch(r"[^:]+:[!*]+", line)]
        # A group without a password is closed to those who are not in it.
        assert [line for line in usable if name == "shadow" or not line.endswith(":")] == []
    assert [line for line in facts["passwd"].lines if not line.endswith(":x")] == []


@pytest.mark.no_boot
def test_no_private_key_lies_about(gather: Any) -> None:
    assert (
        gather({"private": PRIVATE_KEYS.format("/etc /root /home /var/lib /opt /usr/local")})[
            "private"
        ].lines
        == []
    )


def test_boot_leaves_no_private_key_about(facts: Any) -> None:
    """It writes nothing below /opt and /usr/local, where a hundred thousand files are."""
    assert facts["private"].lines == []


def test_builder_s_names_are_gone(facts: Any) -> None:
    assert "golden" not in facts["names"].text and "10.213.0." not in facts["names"].text
    resolver = facts["resolv.conf"].text
    assert resolver.endswith("run/systemd/resolve/resolv.conf") or resolver == "0"


def test_host_keys_come_by_themselves(facts: Any) -> None:
    assert facts["hostkeys-unit"].text == "enabled"


def test_system_is_running_and_no_unit_failed(machine: Any, needs_boot: None) -> None:
    assert machine["failed"].lines == []
    assert machine["state"].text == "running"


def test_only_sshd_listens(machine: Any, lock: dict[str, Any], needs_boot: None) -> None:
    """Port 68 and 546 are DHCP's: a client has to hear the lease's renewal. Notebooks' hub has its
    own test besides.

    containerd, as distributions configure it, has a port of chance on the loopback (of its
    interface for Kubernetes).
    """
    engine = ("127.0.0.1:", '"containerd"') if "container_runtime" in lock["golden_roles"] else None
    heard = [line.split() for line in machine["sockets"].lines
             if not (engine and line.split()[4].startswith(engine[0]) and engine[1] in line)]
    allowed = {("tcp", "22"), ("udp", "68"), ("udp", "546")}
    if "jupyterhub" in lock["golden_roles"]:
        allowed |= {("tcp", port) for port in (str(lock["jupyterhub_port"]), *HUB_S_OWN_PORTS)}
    assert [
        " ".join(words) for words in heard if (words[0], words[4].rpartition(":")[2]) not in allowed
    ] == []
    assert any(words[4].endswith(":22") for words in heard)


def test_root_file_system_fills_the_disk_and_has_space(
    machine: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    if "immutable" in lock["golden_roles"]:
        pytest.skip("not asked: what grows there is not the root (tests/image/immutable)")
    size, free, kind = machine["root"].text.split()
    # ext4 keeps about 2 % for its tables; boot partitions take another 200 MB at most.
    assert kind == "ext4" and int(size) > 0.97 * int(machine["disk"].text) - (200 << 20)
    assert int(free) > 512 << 20, "less than 512 MiB free"
    assert int(machine["inodes"].text.strip().rstrip("%")) < 80
    assert len(machine["swap"].lines) == 1, "swap is on"


def test_keys_are_the_launch_s_alone(machine: Any, booted: bool) -> None:
    """The default user has one key; cloud-init gives root the same one with a command that only
    refuses."""
    if not booted:
        pytest.skip("at rest there is none at all")
    keys = [line.split(" ", 1) for line in machine["keys"].lines]
    usable = [(path, key) for path, key in keys if not re.search(r'command=".*exit [0-9]+"', key)]
    assert len({path for path, _ in usable}) == 1 and len(usable) == 1, machine["keys"].text
    assert not usable[0][0].startswith("/root/")


def test_host_keys_are_private(machine: Any, needs_boot: None) -> None:
    stats = [line.split() for line in machine["hostkeys"].lines if len(line.split()) == 1]
    assert stats and all(mode == ["600"] for mode in stats), machine["hostkeys"].text


def test_journal_begins_with_this_machine(facts: Any, first_boot_time: int) -> None:
    assert int(facts["oldest"].text) >= first_boot_time - FIRST_LOG_GRACE_S


def test_sshd_takes_keys_only(machine: Any, needs_boot: None) -> None:
    words = dict(line.lower().split(" ", 1) for line in machine["root-login"].lines)
    assert words["passwordauthentication"] == "no" and words["permitemptypasswords"] == "no"
    assert words["permitrootlogin"] in ("no", "without-password", "prohibit-password")
