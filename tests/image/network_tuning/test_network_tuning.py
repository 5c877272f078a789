"""Kernel parameters: what the files ask for, and what the booted kernel made of it."""

from __future__ import annotations

from typing import Any

import pytest


def path_of(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


@pytest.fixture(scope="module")
def facts(gather: Any, lock: dict[str, Any]) -> Any:
    names = lock["network_tuning_sysctl"]
    return gather({
        "sysctl.d": "cat /etc/sysctl.d/60-golden.conf",
        "modules-load.d": "cat /etc/modules-load.d/golden.conf",
        "tmpfiles.d": "cat /etc/tmpfiles.d/golden-hugepage.conf",
        "later": "ls /etc/sysctl.d /usr/lib/sysctl.d /run/sysctl.d 2>/dev/null | sort -u",
        "thp": "cat /sys/kernel/mm/transparent_hugepage/enabled",
        "qdisc": "tc qdisc show dev $(ip -o route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/' | head -n 1)",
        "socket": "ss -tin state established",
        **{name: f"cat {path_of(name)}" for name in names},
    })


def test_files_ask_for_every_value(facts: Any, lock: dict[str, Any]) -> None:
    asked = dict(line.split(" = ", 1) for line in facts["sysctl.d"].lines
                 if not line.startswith("#"))
    assert asked == {name: str(value) for name, value in lock["network_tuning_sysctl"].items()}
    modules = [line for line in facts["modules-load.d"].lines if not line.startswith("#")]
    assert modules == lock["network_tuning_modules"]
    assert facts["tmpfiles.d"].lines[-1].split()[-1] == lock["network_tuning_transparent_hugepage"]


def test_kernel_took_every_value(facts: Any, lock: dict[str, Any], needs_boot: None) -> None:
    """Asked of the kernel: a misspelt value (`brr`) is dropped without a sound, a later file may
    override ours."""
    taken = {name: facts[name].text.split() for name in lock["network_tuning_sysctl"]}
    assert taken == {name: str(value).split()
                     for name, value in lock["network_tuning_sysctl"].items()}


def test_huge_pages_are_given_to_those_who_ask(
    facts: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    assert f"[{lock['network_tuning_transparent_hugepage']}]" in facts["thp"].text


def test_interface_has_the_queue(facts: Any, lock: dict[str, Any], needs_boot: None) -> None:
    """The default applies to links that come up after it was set: the one we talk over has to have
    it."""
    wanted = lock["network_tuning_sysctl"]["net.core.default_qdisc"]
    assert facts["qdisc"].lines, "no default route"
    assert {line.split()[1] for line in facts["qdisc"].lines} <= {wanted, "mq"}, facts["qdisc"].text
    assert f"qdisc {wanted} " in facts["qdisc"].text


def test_a_live_connection_uses_the_congestion_control(
    facts: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    """The SSH connection that this test came over."""
    assert (
        lock["network_tuning_sysctl"]["net.ipv4.tcp_congestion_control"]
        in facts["socket"].text.split()
    )
