"""Kernel parameters: what the files ask for, and what the booted kernel made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/network_tuning"


def parameters(lock: dict[str, Any]) -> dict[str, Any]:
    """The role's own, and the definition's over them."""
    facts = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    return {**facts["__network_tuning_sysctl"], **lock["network_tuning_sysctl"]}


def words(value: object) -> list[str]:
    """What a parameter is, however it is spaced."""
    return str(value).split()


def test_files_ask_for_every_value(settings: Any, lock: dict[str, Any]) -> None:
    found = dict(line.split(" = ", 1) for line in settings("/etc/sysctl.d/60-golden.conf"))
    assert found == {name: str(value) for name, value in parameters(lock).items()}
    assert settings("/etc/modules-load.d/golden.conf") == lock["network_tuning_modules"]
    pages = settings("/etc/tmpfiles.d/golden-hugepage.conf")[-1].split()[-1]
    assert pages == lock["network_tuning_transparent_hugepage"]


def test_kernel_took_every_value(host: Any, lock: dict[str, Any], needs_boot: None) -> None:
    """Asked of the kernel: a misspelt value (`brr`) is dropped without a sound, a later file may
    override ours."""
    wanted = parameters(lock)
    taken = {name: words(host.sysctl(name)) for name in wanted}
    assert taken == {name: words(value) for name, value in wanted.items()}


def test_huge_pages_are_given_to_those_who_ask(
    host: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    found = host.file("/sys/kernel/mm/transparent_hugepage/enabled").content_string
    assert f"[{lock['network_tuning_transparent_hugepage']}]" in found


def test_interface_has_the_queue(host: Any, lock: dict[str, Any], needs_boot: None) -> None:
    """The default applies to links that come up after it was set: the one we talk over has to have
    it."""
    wanted = parameters(lock)["net.core.default_qdisc"]
    interface = host.interface.default().name
    assert interface, "no default route"
    queues = host.check_output("tc qdisc show dev %s", interface)
    assert {line.split()[1] for line in queues.splitlines()} <= {wanted, "mq"}, queues
    assert f"qdisc {wanted} " in queues


def test_a_live_connection_uses_the_congestion_control(
    host: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    """The SSH connection that this test came over."""
    wanted = parameters(lock)["net.ipv4.tcp_congestion_control"]
    assert wanted in host.check_output("ss -tin state established").split()
