"""Limits as a login, a service and a user's service get them: neither less nor more than the lock
says."""

from __future__ import annotations

from typing import Any

import pytest

ASK = "ulimit -Sn; ulimit -Hn; ulimit -Sl; ulimit -Hl"
LIMITS = ("nofile", "memlock", "stack")
CONF = "/etc/security/limits.d/60-golden.conf"


@pytest.fixture
def may_raise(host: Any, lock: dict[str, Any], booted: bool) -> None:
    """Skip in a container whose host keeps even root from raising a limit; the booted image has no
    such excuse."""
    files = lock["limits_nofile"]
    raised = host.run(f"prlimit --nofile={files}:{files} --memlock=unlimited:unlimited true")
    if raised.failed and not booted:
        pytest.skip("this host lets no container raise its limits (no CAP_SYS_RESOURCE)")


def expected(lock: dict[str, Any]) -> list[str]:
    return [str(lock["limits_nofile"])] * 2 + [lock["limits_memlock"]] * 2


def test_ssh_session_has_the_limits(user: Any, lock: dict[str, Any], may_raise: None) -> None:
    """What the session itself has; no sudo, which would bring limits of its own."""
    assert user.check_output(ASK).split() == expected(lock)
    assert user.check_output("ulimit -Ss; ulimit -Hs").split() == [lock["limits_stack"]] * 2


def test_root_session_has_the_limits(host: Any, lock: dict[str, Any], may_raise: None) -> None:
    assert host.check_output("su - root -c %s", ASK).split() == expected(lock)


def test_service_has_the_limits(host: Any, lock: dict[str, Any], may_raise: None) -> None:
    ran = host.check_output("systemd-run --quiet --wait --pipe --collect sh -c %s", ASK)
    assert ran.split() == expected(lock)


def test_pam_is_told_of_everybody_and_of_root(
    host: Any, settings: Any, lock: dict[str, Any]
) -> None:
    wanted = {
        (who, "-", limit, str(lock[f"limits_{limit}"])) for who in ("*", "root") for limit in LIMITS
    }
    assert {tuple(line.split()) for line in settings(CONF)} == wanted
    assert host.file("/etc/pam.d/sshd").contains("pam_limits"), "no session reads limits.d"


def test_manager_hands_them_to_every_service(host: Any, lock: dict[str, Any]) -> None:
    memlock = lock["limits_memlock"]
    names = ("NOFILESoft", "NOFILE", "MEMLOCK")
    asked = "systemctl show --value " + " ".join(f"-p DefaultLimit{name}" for name in names)
    wanted = "infinity" if memlock == "unlimited" else str(int(memlock) * 1024)
    assert sorted(host.check_output(asked).split()) == sorted(
        [str(lock["limits_nofile"])] * 2 + [wanted]
    )


def test_a_slow_volume_has_ten_minutes_to_start_a_unit(host: Any) -> None:
    """Systemd's own 90 s fail a unit of a volume that is still loaded, or of a busy host."""
    names = ("DefaultTimeoutStartUSec", "DefaultDeviceTimeoutUSec")
    asked = "systemctl show --value " + " ".join(f"-p {name}" for name in names)
    assert host.check_output(asked).split() == ["10min", "10min"]


def test_user_manager_has_the_limits(user: Any, lock: dict[str, Any], needs_boot: None) -> None:
    asked = "systemctl --user show --value -p DefaultLimitNOFILE -p DefaultLimitNOFILESoft"
    assert user.check_output(asked).split() == [str(lock["limits_nofile"])] * 2


def test_limit_is_one_that_the_kernel_grants(host: Any, lock: dict[str, Any]) -> None:
    assert host.sysctl("fs.nr_open") >= lock["limits_nofile"]


def test_no_engine_gives_containers_other_limits(host: Any, lock: dict[str, Any]) -> None:
    """Role container_runtime sets those of its engine, and its own tests look at them."""
    engines = [name for name in ("docker", "podman", "containerd") if host.exists(name)]
    assert "container_runtime" in lock["golden_roles"] or engines == []
