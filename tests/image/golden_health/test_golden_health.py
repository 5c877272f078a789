"""The look in the image: its settings are the lock's, it runs at boot and again by a timer, and
finds nothing on a machine without faults.

In a container the bake has enabled it and never let it run: it is started for the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

UNIT, TIMER = "golden-health.service", "golden-health.timer"
OF_THE_BUILDER = ("the clock is not synchronized", "kernel's log: a part of the kernel hangs")
"""What a container or an emulated machine shows of the machine that runs it."""


@pytest.fixture(scope="module")
def state(host: Any) -> dict[str, Any]:
    """What the last look said."""
    asked = (
        "for _ in $(seq 60); do test -s /run/golden-health/state.json && break; sleep 1; done; "
        "cat /run/golden-health/state.json"
    )
    if host.service(UNIT).systemd_properties["ActiveEnterTimestampMonotonic"] == "0":
        host.check_output(f"systemctl start {UNIT}")
    found: dict[str, Any] = json.loads(host.check_output(asked))
    return found


def test_settings_are_the_lock_s(host: Any, lock: dict[str, Any]) -> None:
    found = json.loads(host.file("/etc/golden-health.json").content_string)
    assert found == {
        name: lock[f"golden_health_{name}"] for name in ("replace", "publish_enabled", "types")
    }
    checked = host.run("golden-health check")
    assert checked.succeeded, checked.stdout + checked.stderr


def test_only_root_writes_what_root_runs(host: Any) -> None:
    assert (
        host.check_output(
            "find /usr/local/share/golden-health /usr/local/share/golden-idle "
            "/etc/golden-health.json -perm /022 -o ! -user root"
        )
        == ""
    )


def test_it_looks_at_boot_and_again(host: Any, lock: dict[str, Any]) -> None:
    assert host.service(UNIT).is_enabled and host.service(TIMER).is_enabled
    said = host.file(f"/etc/systemd/system/{TIMER}").content_string
    assert f"OnUnitInactiveSec={lock['golden_health_minutes']}min" in said
    properties = host.service(UNIT).systemd_properties
    assert set(properties.get("Before", "").split()) <= {"multi-user.target", "shutdown.target"}
    waits = [name for name in properties["After"].split() if name.startswith(("nvidia", "network"))]
    assert waits == [], "a fault that keeps these from starting would not be named"


def test_nothing_is_found_on_a_machine_without_faults(
    host: Any, state: dict[str, Any], booted: bool, record_figure: Callable[[str, object], None]
) -> None:
    if booted:
        began = host.service("ssh").systemd_properties["ActiveEnterTimestampMonotonic"]
        record_figure("seconds_after_ssh", round(state["at"] - int(began) / 1e6, 1))
    found = [row["text"] for row in state["findings"] if not row["text"].startswith(OF_THE_BUILDER)]
    assert found == []
    told = host.run("golden-health status")
    assert told.rc == bool(state["findings"]), told.stdout + told.stderr
    assert host.file("/run/motd.d/40-golden-health").exists == bool(state["findings"])


def test_its_unit_is_well(host: Any, state: dict[str, Any]) -> None:
    found = host.service(UNIT).systemd_properties
    assert (found["Result"], found["MemoryMax"]) == ("success", str(4 << 30)), state
    assert "cap_sys_module" in found["CapabilityBoundingSet"], (
        "CUDA's start may not load nvidia-uvm"
    )
