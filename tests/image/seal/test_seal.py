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
    "bake's apt source": "/etc/apt/sources.list.d/golden-bake* /etc/apt/apt.conf.d/99mmdebstrap "
    "/usr/sbin/policy-rc.d /etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "packages": "/var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/* "
    "/var/cache/debconf/*-old",
    "histories": "/root/.*_history /home/*/.*_history /root/.lesshst /home/*/.lesshst "
    "/root/.viminfo /home/*/.viminfo",
    "caches": "/root/.cache/* /home/*/.cache/* /root/.nv /home/*/.nv",
    "credentials": "/root/.netrc /home/*/.netrc /root/.docker /home/*/.docker "
    "/root/.aws /home/*/.aws /root/.git-credentials "
    "/etc/apt/auth.conf /etc/apt/auth.conf.d/* /root/.pypirc /root/.npmrc",
    "automation": "/root/.ansible /home/*/.ansible /tmp/ansible* /var/tmp/ansible* "
    "/tmp/packer* /var/tmp/.ansible*",
    "dumps and swap": "/core /root/core /var/crash/* /var/lib/systemd/coredump/* "
    "/swapfile /swap.img",
    "udev": "/etc/udev/rules.d/70-persistent-net.rules /etc/udev/rules.d/75-*net*",
    "driver builds": "/var/lib/dkms/*/*/build /var/lib/dkms/mok.* /var/lib/shim-signed/mok/* "
    "/etc/dkms/*.key",
    "machine's names": "/etc/nvme/hostnqn /etc/nvme/hostid /etc/ssl/private/ssl-cert-snakeoil.key",
}
"""Never there: neither at rest nor after a boot: shell patterns by kind."""

MADE_ANEW = {
    "backups": "/etc/[!s]*- /etc/sub?id- /var/backups/*",
    "host keys": "/etc/ssh/ssh_host_*",
    "authorized keys": "/root/.ssh/* /home/*/.ssh /etc/ssh/authorized_keys*",
    "apt lists": "/var/lib/apt/lists/*_* /var/cache/apt/*.bin",
    "hostname": "/etc/hostname /etc/machine-info",
    "container engines": "/etc/docker/key.json /var/lib/docker/*",
    "leases": "/var/lib/dhcp/* /var/lib/dhcpcd/* /var/lib/NetworkManager/*",
    "seeds": "/var/lib/systemd/random-seed /var/lib/systemd/credential.secret",
    "cloud-init": "/var/lib/cloud/* /etc/netplan/50-cloud-init.yaml",
    "notebooks' secrets": "/var/lib/jupyterhub/*",
    "temporary files": "/var/tmp/* /var/tmp/.[!.]*",
}
"""Not there at rest. A boot makes some of them anew: then each has to be younger than the machine's
first boot."""
PRIVATE_KEYS = (
    "grep -rIlsE -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' {} --exclude-dir=cloud "
    "--exclude='ssh_host_*'"
)
"""-I: a key is text; gigabytes of libraries are not read to their ends."""
DEFAULT_USER = """
import grp, json, os, pwd
from cloudinit import util
user = util.read_conf_with_confd("/etc/cloud/cloud.cfg")["system_info"]["default_user"]
found = pwd.getpwnam(user["name"])
skel, home = os.listdir("/etc/skel"), os.lstat(found.pw_dir)
print(json.dumps({
    "name": user["name"], "uid": found.pw_uid, "shell": [found.pw_shell, user["shell"]],
    "gecos": [found.pw_gecos, user.get("gecos", found.pw_gecos)],
    "outside": [name for name in user["groups"] if user["name"] not in grp.getgrnam(name).gr_mem],
    "home": [home.st_uid, home.st_gid] == [found.pw_uid, found.pw_gid] and not home.st_mode & 0o027,
    "not of skel": sorted(set(os.listdir(found.pw_dir)) - set(skel)),
    "lacks": sorted(set(skel) - set(os.listdir(found.pw_dir)))}))
"""
FIRST_LOG_GRACE_S = 60
"""The first lines of a journal carry the clock as it was before it was set."""


@pytest.fixture(scope="module")
def oldest(host: Any) -> int:
    """Seconds since 1970 of the journal's first line."""
    return int(
        host.check_output(
            "journalctl --output=short-unix --quiet --no-pager | head -n 1 | cut -d . -f 1"
        )
    )


@pytest.fixture(scope="module")
def first_boot_time(host: Any, oldest: int, needs_boot: None) -> int:
    """Seconds since 1970 at which this machine first booted: the only boot's, or where the journal
    begins."""
    if len(host.check_output("journalctl --list-boots --quiet --no-pager").splitlines()) > 1:
        return oldest - FIRST_LOG_GRACE_S
    return int(host.check_output("grep ^btime /proc/stat").split()[1]) - 1


@pytest.mark.parametrize("kind", GONE)
def test_no_trace_is_left(host: Any, kind: str) -> None:
    assert host.run(f"ls -d {GONE[kind]}").stdout.splitlines() == []


@pytest.mark.at_rest
@pytest.mark.parametrize("kind", MADE_ANEW)
def test_no_trace_is_left_at_rest(host: Any, kind: str) -> None:
    assert host.run(f"ls -d {MADE_ANEW[kind]}").stdout.splitlines() == []


@pytest.mark.at_rest
def test_logs_are_gone(host: Any) -> None:
    assert host.check_output("find /var/log -type f") == ""


@pytest.mark.parametrize("kind", [*MADE_ANEW, "logs"])
def test_made_since_the_first_boot(host: Any, first_boot_time: int, kind: str) -> None:
    """Born after the first boot: what the image brought along would be older."""
    asked = "stat -c '%W %n'"
    born = host.run(
        f"{asked} {MADE_ANEW[kind]}"
        if kind in MADE_ANEW
        else f"find /var/log -type f -exec {asked} {{}} +"
    ).stdout.splitlines()
    assert [line for line in born if int(line.split()[0]) < first_boot_time] == []


@pytest.mark.no_boot
def test_default_user_is_there_as_the_first_boot_would_make_him(
    host: Any, run_program: Any, lock: dict[str, Any]
) -> None:
    if "os_updates" not in lock["golden_roles"]:
        pytest.skip("not asked: cloud-init is of the role os_updates")
    user = run_program(DEFAULT_USER)
    assert user["uid"] >= 1000 and user["home"]
    assert user["shell"][0] == user["shell"][1] and user["gecos"][0] == user["gecos"][1]
    assert [user[kind] for kind in ("outside", "not of skel", "lacks")] == [[], [], []]
    rule, folder = "/etc/sudoers.d/90-cloud-init-users", host.file("/etc/sudoers.d")
    assert host.file(rule).content_string == (
        f"\n# User rules for {user['name']}\n{user['name']} ALL=(ALL) NOPASSWD:ALL\n"
    )
    assert (host.file(rule).mode, folder.mode) == (0o440, 0o750)


@pytest.mark.no_boot
def test_only_backup_of_accounts_is_a_copy_of_shadow(host: Any) -> None:
    assert host.check_output("cat /etc/shadow-") == host.check_output("cat /etc/shadow")
    assert host.check_output("stat -c '%a %U %G' /etc/shadow-") == host.check_output(
        "stat -c '%a %U %G' /etc/shadow"
    )


def test_machine_id_is_empty_at_rest_and_of_this_machine_when_booted(
    host: Any, booted: bool
) -> None:
    """Empty, not missing: a missing one, or `uninitialized`, makes systemd reset every unit to its
    preset."""
    found = host.file("/etc/machine-id")
    assert found.size == (33 if booted else 0)
    assert re.fullmatch(r"([0-9a-f]{32}\n)?", found.content_string)
    assert host.file("/var/lib/dbus/machine-id").linked_to == "/etc/machine-id"


def test_every_password_is_locked(host: Any) -> None:
    for name in ("shadow", "gshadow"):
        lines = host.check_output(f"cut -d : -f 1,2 /etc/{name}").splitlines()
        usable = [line for line in lines if not re.fullmatch(r"[^:]+:[!*]+", line)]
        # A group without a password is closed to those who are not in it.
        assert [line for line in usable if name == "shadow" or not line.endswith(":")] == []
    users = host.check_output("cut -d : -f 1,2 /etc/passwd").splitlines()
    assert [line for line in users if not line.endswith(":x")] == []


@pytest.mark.no_boot
def test_no_private_key_lies_about(host: Any) -> None:
    assert host.run(PRIVATE_KEYS.format("/etc /root /home /var/lib /opt /usr/local")).stdout == ""


def test_boot_leaves_no_private_key_about(host: Any) -> None:
    """It writes nothing below /opt and /usr/local, where a hundred thousand files are."""
    assert host.run(PRIVATE_KEYS.format("/etc /root /home /var/lib")).stdout == ""


def test_builder_s_names_are_gone(host: Any) -> None:
    names = host.run("cat /etc/hosts /etc/resolv.conf").stdout
    assert "golden" not in names and "10.213.0." not in names
    resolver = host.file("/etc/resolv.conf")
    if resolver.is_symlink:
        found = host.check_output("readlink /etc/resolv.conf")
        assert found.endswith("run/systemd/resolve/resolv.conf")
    else:
        assert resolver.size == 0


def test_host_keys_come_by_themselves(host: Any) -> None:
    assert host.service("golden-ssh-hostkeys.service").is_enabled


def test_system_is_running_and_no_unit_failed(host: Any, needs_boot: None, settled: str) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
    assert settled == "running"


def test_root_file_system_fills_the_disk_and_has_space(
    host: Any, lock: dict[str, Any], needs_boot: None, settled: str
) -> None:
    if "immutable" in lock["golden_roles"]:
        pytest.skip("not asked: what grows there is not the root (tests/image/immutable)")
    size, free, kind = host.check_output("findmnt -n -b -o SIZE,AVAIL,FSTYPE /").split()
    disk = host.check_output(
        "lsblk -n -b -d -o SIZE /dev/$(lsblk -n -o PKNAME $(findmnt -n -o SOURCE /) | head -n 1)"
    )
    # ext4 keeps about 2 % for its tables; boot partitions take another 200 MB at most.
    assert kind == "ext4" and int(size) > 0.97 * int(disk) - (200 << 20)
    assert int(free) > 512 << 20, "less than 512 MiB free"
    assert int(host.check_output("df --output=ipcent /").split()[-1].rstrip("%")) < 80
    assert host.file("/proc/swaps").content_string.count("\n") == 1, "swap is on"


def test_keys_are_the_launch_s_alone(host: Any, booted: bool) -> None:
    """The default user has one key; cloud-init gives root the same one with a command that only
    refuses."""
    if not booted:
        pytest.skip("at rest there is none at all")
    found = host.run(
        "cut -d : -f 6 /etc/passwd | sort -u | sed 's|$|/.ssh/authorized_keys|' | xargs grep -Hs ."
    ).stdout.splitlines()
    usable = [line for line in found if not re.search(r'command=".*exit [0-9]+"', line)]
    assert len(usable) == 1 and not usable[0].startswith("/root/"), found


def test_host_keys_are_private(host: Any, needs_boot: None) -> None:
    keys = host.check_output("ls /etc/ssh/ssh_host_*_key").split()
    assert keys and {host.file(key).mode for key in keys} == {0o600}, keys


def test_journal_begins_with_this_machine(first_boot_time: int, oldest: int) -> None:
    assert oldest >= first_boot_time - FIRST_LOG_GRACE_S


def test_sshd_takes_keys_only(host: Any, needs_boot: None) -> None:
    lines = host.check_output("sshd -T").lower().splitlines()
    words = dict(line.split(" ", 1) for line in lines if " " in line)
    assert words["passwordauthentication"] == "no" and words["permitemptypasswords"] == "no"
    assert words["permitrootlogin"] in ("no", "without-password", "prohibit-password")
