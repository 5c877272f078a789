"""What the checks of role hardening say of a machine: nothing of a good one, a flipped or missing
value by its name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.gpu import gpu_checks

ROOT = Path(__file__).resolve().parents[3]
CHECKS = gpu_checks.module(ROOT / "tests/image/hardening/test_hardening.py")
LOCK = {
    **yaml.safe_load((ROOT / "roles/hardening/defaults/main.yml").read_text(encoding="utf-8")),
    "golden_image": "demo",
    "golden_roles": ["hardening", "container_runtime"],
}
PARAMETERS = CHECKS.parameters(LOCK)
BANNER = LOCK["hardening_banner_text"]


def answer(*lines: str, status: int = 0) -> SimpleNamespace:
    return SimpleNamespace(status=status, text="\n".join(lines), lines=list(lines))


GOOD = {
    "sshd": answer(
        *(f"{name.lower()} {value}" for name, value in LOCK["hardening_ssh_options"].items()),
        "banner /etc/issue.net",
        "debianbanner no",
    ),
    "ssh modes": answer("600"),
    "sysctl": answer(*(f"{name} {value}" for name, value in PARAMETERS.items())),
    "sysctl file": answer("# made", *(f"{name} = {value}" for name, value in PARAMETERS.items())),
    "auth": answer(
        "auth required pam_faillock.so preauth",
        "auth [success=2 default=ignore] pam_unix.so nullok",
        "auth [default=die] pam_faillock.so authfail",
        "auth sufficient pam_faillock.so authsucc",
    ),
    "account": answer("account required pam_faillock.so"),
    "password": answer(
        "password requisite pam_pwquality.so retry=3",
        "password requisite pam_pwhistory.so remember=2",
        "deny = 3",
        "unlock_time = 900",
        "SHA_CRYPT_MIN_ROUNDS 65536",
    ),
    "quality": answer("True", "False"),
    "sudo": answer("use_pty, ignore_dot", "750"),
    "first files": answer(),
    "apparmor": answer("/usr/sbin/chronyd (enforce)"),
    "aa unit": answer("enabled"),
    "aa labels": answer("/usr/sbin/chronyd (enforce)"),
    "aa left": answer(),
    "modules": answer(status=1),
    "modules asked": answer(*["install /bin/false"] * 14),
    "core": answer("|/bin/false", "0"),
    "core file": answer("[Coredump]", "Storage=none", "ProcessSizeMax=0"),
    "core service": answer("0", "0"),
    "journal": answer(
        "File path: /var/log/journal/0/system.journal", "System Journal () is 8M, max 1G"
    ),
    "aa cache": answer(),
    "journal file": answer("Storage=persistent", "SystemMaxUse=1G"),
    "mounts": answer(
        "/ rw",
        "/tmp rw,nosuid,nodev",
        "/dev/shm rw,nosuid,nodev",
        "/home rw,nodev",
        "/var/tmp rw,nosuid,nodev",
    ),
    "mount units": answer("enabled", "enabled"),
    "mount folders": answer(
        "/usr/local/lib/systemd/system/home.mount", "/usr/local/lib/systemd/system/var-tmp.mount"
    ),
    "unit folders": answer(
        "/etc/systemd/system", "/run/systemd/generator", "/usr/local/lib/systemd/system"
    ),
    "banner": answer(BANNER, BANNER),
    "audit": answer("enabled 1", "active"),
    "audit rules": answer(*CHECKS.audit_rules()),
}
Change = Callable[[str], str]


def replaced(old: str, new: str) -> Change:
    return lambda text: text.replace(old, new)


FAULTS: dict[str, tuple[str, Change, str, str]] = {
    "a flipped option": (
        "sshd",
        replaced("permitrootlogin no", "permitrootlogin yes"),
        "sshd_has_every_option",
        "permitrootlogin is yes, not no",
    ),
    "a flipped parameter": (
        "sysctl",
        replaced("kernel.kptr_restrict 2", "kernel.kptr_restrict 0"),
        "kernel_took_every_parameter",
        "kernel.kptr_restrict is 0, not 2",
    ),
    "a parameter that the file lacks": (
        "sysctl file",
        replaced("fs.protected_fifos = 2\n", ""),
        "file_asks_for_every_parameter",
        "fs.protected_fifos is missing, not 2",
    ),
    "guesses counted too late": (
        "auth",
        replaced("auth required pam_faillock.so preauth\n", ""),
        "guessing_at_a_password_ends",
        "pam_unix.so",
    ),
    "a short password": ("quality", replaced("True", "False"), "password_has_to_be_good", "False"),
    "SHA-512 in a hurry": (
        "password",
        replaced("ROUNDS 65536", "ROUNDS 5000"),
        "sha512_is_slow_to_guess",
        "65536",
    ),
    "sudo from here": (
        "sudo",
        replaced("ignore_dot", ""),
        "sudo_ignores_the_folder_one_stands_in",
        "use_pty",
    ),
    "a home that all read": (
        "first files",
        lambda _: "/home/debian/.profile",
        "nobody_else_reads_what_a_shell_starts_with",
        ".profile",
    ),
    "a daemon unconfined": (
        "aa labels",
        replaced("/usr/sbin/chronyd (enforce)", "unconfined"),
        "apparmor_confines",
        "unconfined",
    ),
    "a module loaded": ("modules", lambda _: "sctp", "denied_modules_cannot_be_loaded", "sctp"),
    "dumps on the disk": ("core", replaced("|/bin/false", "core"), "no_process_dumps_core", "core"),
    "a journal in memory": (
        "journal",
        replaced("/var/log", "/run/log"),
        "journal_is_on_the_disk_and_limited",
        "/run/",
    ),
    "a journal without a limit": (
        "journal",
        replaced("max 1G", "max 1.5G"),
        "journal_is_on_the_disk_and_limited",
        "1.5G",
    ),
    "devices in homes": (
        "mounts",
        replaced("/home rw,nodev", "/home rw"),
        "folders_have_fewer_rights",
        "/home lacks",
    ),
    "a unit that hides fstab's": (
        "mount folders",
        lambda _: "",
        "a_folder_in_fstab_keeps_its_own_mount",
        "",
    ),
    "the system's name": (
        "banner",
        replaced(BANNER, "Debian GNU/Linux 13"),
        "banner_names_no_system",
        "Debian",
    ),
    "a rule that auditd lacks": (
        "audit rules",
        replaced("-w /etc/shadow -p wa -k accounts\n", ""),
        "audit_records_what_the_rules_say",
        "-w /etc/shadow -p wa -k accounts",
    ),
}


def complaints(facts: dict[str, SimpleNamespace], **lock: bool) -> dict[str, str]:
    def concern(name: str) -> None:
        if not {**LOCK, "hardening_audit_enabled": True, **lock}[f"hardening_{name}_enabled"]:
            pytest.skip(name)

    return gpu_checks.complaints(
        CHECKS,
        {
            "facts": facts,
            "lock": LOCK,
            "concern": concern,
            "booted": True,
            "needs_boot": None,
            "user": SimpleNamespace(check_output=lambda _: "0\n0"),
        },
    )


def test_a_hardened_machine_raises_no_alarm() -> None:
    assert complaints(GOOD) == {}


def test_a_journal_that_began_on_a_small_disk_has_less() -> None:
    small = {
        **GOOD,
        "journal": answer(*GOOD["journal"].text.replace("max 1G", "max 286.1M").splitlines()),
    }
    assert complaints(small) == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    name, change, check, text = FAULTS[fault]
    facts: dict[str, Any] = copy.deepcopy(GOOD)
    facts[name] = answer(*change(facts[name].text).splitlines(), status=facts[name].status)
    said = complaints(facts)
    assert set(said) == {check} and text in said[check], said


def test_a_concern_that_is_off_is_not_asked() -> None:
    off = dict.fromkeys((name for name in LOCK if name.endswith("_enabled")), False)
    assert complaints({name: answer() for name in GOOD}, **off) == {}


def test_without_an_engine_nothing_is_routed() -> None:
    assert CHECKS.parameters({**LOCK, "golden_roles": []})["net.ipv4.ip_forward"] == "0"
    assert "net.ipv4.ip_forward" not in PARAMETERS
