"""Limits as a login, a service and a user's service get them: neither less nor more than the lock
says."""

from __future__ import annotations

from typing import Any

import pytest

ASK = "ulimit -Sn; ulimit -Hn; ulimit -Sl; ulimit -Hl"
LIMITS = ("nofile", "memlock", "stack")
SERVICE = f"systemd-run --quiet --wait --pipe --collect sh -c '{ASK}'"


@pytest.fixture(scope="module")
def session(gather: Any) -> Any:
    """What the SSH session itself has; no sudo, which would bring limits of its own."""
    return gather({"limits": ASK, "stack": "ulimit -Ss; ulimit -Hs",
                   "user": "systemctl --user show --value -p DefaultLimitNOFILE -p DefaultLimitNOFILESoft"}, root=False)


@pytest.fixture(scope="module")
def system(gather: Any, lock: dict[str, Any]) -> Any:
    return gather({
        "service": SERVICE,
        "root": f"su - root -c '{ASK}'",
        "manager": "systemctl show --value -p DefaultLimitNOFILESoft -p DefaultLimitNOFILE -p DefaultLimitMEMLOCK",
        "pam": "grep -hv '^#' /etc/security/limits.d/60-golden.conf; grep -l pam_limits /etc/pam.d/sshd",
        "may": f"prlimit --nofile={lock['limits_nofile']}:{lock['limits_nofile']} --memlock=unlimited:unlimited true",
        "nr_open": "cat /proc/sys/fs/nr_open",
        "engines": "command -v docker podman containerd",
    })


@pytest.fixture
def may_raise(system: Any, booted: bool) -> None:
    """Skip in a container whose host keeps even root from raising a limit; the booted image has no
    such excuse."""
    if system["may"].status and not booted:
        pytest.skip("this host lets no container raise its limits (no CAP_SYS_RESOURCE)")


def expected(lock: dict[str, Any]) -> list[str]:
    return [str(lock["limits_nofile"])] * 2 + [lock["limits_memlock"]] * 2


def test_ssh_session_has_the_limits(session: Any, lock: dict[str, Any], may_raise: None) -> None:
    assert session["limits"].lines == expected(lock)
    assert session["stack"].lines == [lock["limits_stack"]] * 2


def test_root_session_has_the_limits(system: Any, lock: dict[str, Any], may_raise: None) -> None:
    assert system["root"].lines == expected(lock)


def test_service_has_the_limits(system: Any, lock: dict[str, Any], may_raise: None) -> None:
    assert system["service"].lines == expected(lock)


def test_pam_is_told_of_everybody_and_of_root(system: Any, lock: dict[str, Any]) -> None:
    wanted = {(who, "-", limit, str(lock[f"limits_{limit}"])) for who in ("*", "root")
              for limit in LIMITS}
    *rules, module = system["pam"].lines
    assert {tuple(rule.split()) for rule in rules} == wanted
    assert module == "/etc/pam.d/sshd", "no session over SSH reads limits.d"


def test_manager_hands_them_to_every_service(system: Any, lock: dict[str, Any]) -> None:
    memlock = (
        "infinity"
        if lock["limits_memlock"] == "unlimited"
        else str(int(lock["limits_memlock"]) * 1024)
    )
    assert sorted(system["manager"].lines) == sorted([str(lock["limits_nofile"])] * 2 + [memlock])


def test_user_manager_has_the_limits(session: Any, lock: dict[str, Any], needs_boot: None) -> None:
    assert session["user"].lines == [str(lock["limits_nofile"])] * 2


def test_limit_is_one_that_the_kernel_grants(system: Any, lock: dict[str, Any]) -> None:
    assert int(system["nr_open"].text) >= lock["limits_nofile"]


def test_no_engine_gives_containers_other_limits(system: Any, lock: dict[str, Any]) -> None:
    """Role container_runtime sets those of its engine, and its own tests look at them."""
    assert "container_runtime" in lock["golden_roles"] or system["engines"].lines == []
