"""Each concern of the role hardening, as the booted kernel, sshd and the services have it: flipped
values by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/hardening"
PAM_ORDER = (
    "required pam_faillock.so preauth",
    "pam_unix.so",
    "[default=die] pam_faillock.so authfail",
    "sufficient pam_faillock.so authsucc",
)
SYSTEMD_MOUNTS = {"/tmp": "nosuid,nodev", "/dev/shm": "nosuid,nodev"}
TRIES = "for m in {}; do modprobe $m 2>/dev/null && echo $m; done; grep -sowE '{}' /proc/modules"

QUALITY = """
import ctypes, sys
library = ctypes.CDLL("libpwquality.so.1")
library.pwquality_default_settings.restype = ctypes.c_void_p
settings, unused = ctypes.c_void_p(library.pwquality_default_settings()), ctypes.c_void_p()
assert library.pwquality_read_config(settings, None, ctypes.byref(unused)) == 0
for word in sys.argv[1].split():
    print(library.pwquality_check(settings, word.encode(), None, None, ctypes.byref(unused)) < 0)
"""
"""Whether each password is refused, by the library, settings and dictionary that passwd asks
(pwquality.h)."""


def parameters(lock: dict[str, Any]) -> dict[str, str]:
    """What the kernel has to say of each parameter."""
    facts = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    routed = {} if "container_runtime" in lock["golden_roles"] else {"net.ipv4.ip_forward": 0}
    wanted = {**facts["__hardening_sysctl"], **lock["hardening_sysctl"], **routed}
    return {name: " ".join(str(value).split()) for name, value in wanted.items()}


def size_of(text: str) -> float:
    """Bytes of what journald calls `633.1M`."""
    return float(text.rstrip("BKMGT")) * 1024.0 ** "BKMGT".find(text[-1])


def audit_rules() -> list[str]:
    """The rules of auditd, as auditctl lists them."""
    rules: list[str] = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))[
        "__hardening_audit_rules"
    ]
    return rules


class Answer(NamedTuple):
    """Both output streams of a command."""

    text: str

    @property
    def lines(self) -> list[str]:
        """Lines of the output without blank ones."""
        return [line for line in self.text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def facts(host: Any, lock: dict[str, Any]) -> dict[str, Answer]:
    """What each command says; tests/unit/roles/test_hardening_checks.py feeds the checks others."""
    asked = commands(lock)
    return {
        name: Answer(host.run(f"{{ {command}; }} 2>&1").stdout.strip())
        for name, command in asked.items()
    }


def commands(lock: dict[str, Any]) -> dict[str, str]:
    modules, names = lock["hardening_modules_denied"], list(parameters(lock))
    return {
        "sshd": "mkdir -p /run/sshd; sshd -T",
        "ssh modes": "stat -c %a /etc/ssh/sshd_config",
        "sysctl": " ; ".join(
            f"echo {name} $(cat /proc/sys/{name.replace('.', '/')})" for name in names
        ),
        "sysctl file": "cat /etc/sysctl.d/99-zz-golden-hardening.conf",
        "auth": "sed 's/[[:space:]]\\+/ /g' /etc/pam.d/common-auth",
        "account": "cat /etc/pam.d/common-account",
        "password": "cat /etc/pam.d/common-password; "
        "cat /etc/security/pwquality.conf /etc/security/faillock.conf; cat /etc/login.defs",
        "quality": f"python3 -c '{QUALITY}' 'short1 kR7#vq-Lw2!zTb9'",
        "sudo": "sudo -n -l -U root 2>&1; stat -c %a /etc/sudoers.d",
        "first files": "find /etc/skel /home -maxdepth 2 -perm /037 -regextype egrep"
        " -regex '.*/[.](bashrc|bash_logout|profile)'",
        "apparmor": "cat /sys/kernel/security/apparmor/profiles",
        "aa unit": "systemctl is-enabled apparmor",
        "aa cache": "ls -A /var/cache/apparmor",
        "aa labels": "cat /proc/$(systemctl show --value -p MainPID chrony)/attr/current",
        "aa left": "cd /etc/apparmor.d; for p in $(grep -sl 'flags=(unconfined)' -- *);"
        " do test -e disable/$p || echo $p; done",
        "modules": TRIES.format(
            " ".join(modules), "|".join(name.replace("-", "_") for name in modules)
        ),
        "modules asked": f"for m in {' '.join(modules)}; do modprobe -nv $m; done",
        "core": "cat /proc/sys/kernel/core_pattern; systemctl show --value -p DefaultLimitCORE",
        "core file": "cat /etc/systemd/coredump.conf.d/70-golden-core.conf",
        "core service": "systemd-run --quiet --wait --pipe --collect "
        "sh -c 'ulimit -Sc; ulimit -Hc'",
        "journal": "journalctl --header -n 0 | grep -m 1 '^File path'; journalctl -o cat -b "
        "SYSLOG_IDENTIFIER=systemd-journald | grep -o 'System Journal .* max [^,]*' | tail -n 1",
        "journal file": "cat /etc/systemd/journald.conf.d/60-golden.conf",
        "mounts": "findmnt -rno TARGET,OPTIONS",
        "mount units": " ; ".join(
            f"systemctl is-enabled $(systemd-escape -p --suffix=mount {path})"
            for path in lock["hardening_mounts"]
        ),
        "mount folders": " ; ".join(
            f"ls /usr/local/lib/systemd/system/$(systemd-escape -p --suffix=mount {path})"
            for path in lock["hardening_mounts"]
        ),
        "unit folders": "systemd-analyze --system unit-paths",
        "banner": "cat /etc/issue; cat /etc/issue.net",
        "audit": "auditctl -s; systemctl is-active auditd",
        "audit rules": "auditctl -l",
    }


@pytest.fixture
def concern(lock: dict[str, Any]) -> Callable[[str], None]:
    """A function that skips where the image has a concern switched off."""

    def ask(name: str) -> None:
        if not lock[f"hardening_{name}_enabled"]:
            pytest.skip(f"not asked: the image has hardening_{name}_enabled: false")

    return ask


def same(found: dict[str, str], wanted: dict[str, str]) -> None:
    """Fail by the name of each value that is not as wanted."""
    wrong = [
        f"{name} is {found.get(name, 'missing')}, not {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    assert not wrong, "; ".join(wrong)


def test_sshd_has_every_option(facts: Any, lock: dict[str, Any], concern: Any) -> None:
    concern("ssh")
    said = dict(line.partition(" ")[::2] for line in facts["sshd"].lines)
    same(said, {name.lower(): str(value) for name, value in lock["hardening_ssh_options"].items()})
    assert facts["ssh modes"].text == "600", f"sshd_config has mode {facts['ssh modes'].text}"


def test_kernel_took_every_parameter(
    facts: Any, lock: dict[str, Any], concern: Any, needs_boot: None
) -> None:
    concern("sysctl")
    said = {
        name: " ".join(value.split())
        for name, _, value in (line.partition(" ") for line in facts["sysctl"].lines)
    }
    same(said, parameters(lock))


def test_file_asks_for_every_parameter(facts: Any, lock: dict[str, Any], concern: Any) -> None:
    concern("sysctl")
    asked = dict(
        line.split(" = ", 1) for line in facts["sysctl file"].lines if not line.startswith("#")
    )
    same(asked, parameters(lock))
    assert asked.keys() == parameters(lock).keys(), "the file has further ones"


def test_guessing_at_a_password_ends(facts: Any, lock: dict[str, Any], concern: Any) -> None:
    concern("passwords")
    text = "\n".join(line for line in facts["auth"].lines if not line.startswith("#"))
    places = [text.find(part) for part in PAM_ORDER]
    assert -1 not in places and places == sorted(places), text
    assert "pam_faillock.so" in facts["account"].text, facts["account"].text
    for name, value in (
        ("deny", lock["hardening_passwords_deny"]),
        ("unlock_time", lock["hardening_passwords_unlock_s"]),
    ):
        assert f"{name} = {value}" in facts["password"].lines, (
            f"faillock.conf lacks {name} = {value}"
        )


def test_password_has_to_be_good(facts: Any, concern: Any) -> None:
    concern("passwords")
    assert facts["quality"].lines == ["True", "False"], facts["quality"].text
    for module in ("pam_pwquality.so", "pam_pwhistory.so remember=2"):
        assert module in facts["password"].text, f"common-password lacks {module}"


def test_sha512_is_slow_to_guess(facts: Any, lock: dict[str, Any], concern: Any) -> None:
    concern("passwords")
    rounds = f"SHA_CRYPT_MIN_ROUNDS {lock['hardening_passwords_sha_rounds']}"
    assert rounds in facts["password"].lines, f"login.defs lacks {rounds}"


def test_sudo_ignores_the_folder_one_stands_in(facts: Any, concern: Any) -> None:
    concern("passwords")
    assert "ignore_dot" in facts["sudo"].text and facts["sudo"].lines[-1] == "750", facts[
        "sudo"
    ].text


def test_nobody_else_reads_what_a_shell_starts_with(facts: Any, concern: Any) -> None:
    concern("passwords")
    assert facts["first files"].lines == [], facts["first files"].text


def test_apparmor_confines(facts: Any, concern: Any, needs_boot: None) -> None:
    """Time comes over the network: its daemon is one that has a profile."""
    concern("apparmor")
    assert facts["aa unit"].text == "enabled", facts["aa unit"].text
    assert facts["aa left"].lines == [], f"these confine nothing: {facts['aa left'].text}"
    assert any(line.endswith("(enforce)") for line in facts["apparmor"].lines), facts[
        "apparmor"
    ].text
    assert facts["aa labels"].text.endswith("(enforce)"), facts["aa labels"].text
    assert facts["aa cache"].lines == [], (
        "compiled profiles lie on the disk, and root would load others from there"
    )


def test_denied_modules_cannot_be_loaded(facts: Any, lock: dict[str, Any], concern: Any) -> None:
    concern("modules")
    assert facts["modules"].lines == [], f"loaded: {facts['modules'].text}"
    kept = facts["modules asked"].text.count("install /bin/false")
    assert kept == len(lock["hardening_modules_denied"]), facts["modules asked"].text


def test_no_process_dumps_core(facts: Any, concern: Any, user: Any, needs_boot: None) -> None:
    concern("core_dumps")
    assert facts["core"].lines == ["|/bin/false", "0"], (
        f"core_pattern and limit: {facts['core'].text}"
    )
    assert {"Storage=none", "ProcessSizeMax=0"} <= set(facts["core file"].lines), facts[
        "core file"
    ].text
    assert facts["core service"].lines == ["0", "0"], (
        f"a service's limit: {facts['core service'].text}"
    )
    assert user.check_output("ulimit -Sc; ulimit -Hc").split() == ["0", "0"]


def test_journal_is_on_the_disk_and_limited(
    facts: Any, lock: dict[str, Any], concern: Any, booted: bool
) -> None:
    concern("journal")
    size = lock["hardening_journal_max_use"]
    assert {"Storage=persistent", f"SystemMaxUse={size}"} <= set(facts["journal file"].lines)
    if booted:
        where, most = facts["journal"].lines
        assert where.split()[-1].startswith("/var/log/journal/"), where
        # Less where its file system was smaller when it began: a volume grows later in a boot.
        assert size_of(most.split()[-1]) <= size_of(size), most


def test_folders_have_fewer_rights(
    facts: Any, lock: dict[str, Any], concern: Any, booted: bool
) -> None:
    concern("mounts")
    assert set(facts["mount units"].lines) == {"enabled"}, facts["mount units"].text
    found = {
        path: set(options.split(","))
        for path, options in (line.split() for line in facts["mounts"].lines)
    }
    wanted = {**SYSTEMD_MOUNTS, **lock["hardening_mounts"]} if booted else {}
    lacking = [
        f"{path} lacks {options}"
        for path, options in wanted.items()
        if not set(options.split(",")) <= found.get(path, set())
    ]
    assert not lacking, "; ".join(lacking)


def test_a_folder_in_fstab_keeps_its_own_mount(
    facts: Any, lock: dict[str, Any], concern: Any
) -> None:
    concern("mounts")
    assert len(facts["mount folders"].lines) == len(lock["hardening_mounts"]), facts[
        "mount folders"
    ].text
    order = facts["unit folders"].lines
    assert order.index("/run/systemd/generator") < order.index("/usr/local/lib/systemd/system"), (
        "fstab's come first"
    )


def test_banner_names_no_system(facts: Any, lock: dict[str, Any], concern: Any) -> None:
    concern("banner")
    assert facts["banner"].lines == [lock["hardening_banner_text"]] * 2, facts["banner"].text
    same(
        dict(line.lower().split(" ", 1) for line in facts["sshd"].lines),
        {"banner": "/etc/issue.net", "debianbanner": "no"},
    )


def test_audit_records_what_the_rules_say(facts: Any, concern: Any, needs_boot: None) -> None:
    concern("audit")
    assert "enabled 1" in facts["audit"].lines and facts["audit"].lines[-1] == "active", facts[
        "audit"
    ].text
    lacking = [rule for rule in audit_rules() if rule not in facts["audit rules"].lines]
    assert not lacking, f"the kernel lacks {'; '.join(lacking)}"
