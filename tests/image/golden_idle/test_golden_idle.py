"""The agent in the image: its settings are the lock's, its unit is enabled, and where it runs it
says what it thinks.

In a container the bake has enabled it and never let it run; it is started for the tests, and
stopped again.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

UNIT = "golden-idle.service"
STARTED = f"systemctl is-active --quiet {UNIT} || {{ systemctl start {UNIT} && touch /run/golden-idle-started; }}"
STOPPED = f"[ ! -e /run/golden-idle-started ] || {{ rm /run/golden-idle-started; systemctl stop {UNIT}; }}"
ASKED = ("for _ in $(seq 60); do golden-idle status --json 2>/dev/null && break; sleep 1; done; "
         "golden-idle status --json >/dev/null && golden-idle why")
"""A sample is taken each ten seconds, so the first answer takes that long."""
PROPERTIES = ("MemoryMax", "Result", "NRestarts")


@pytest.fixture(scope="module")
def facts(gather: Any) -> Any:
    return gather({
        "enabled": f"systemctl is-enabled {UNIT}",
        "settings": "cat /etc/golden-idle.json",
        "checked": "golden-idle check",
        "ordered": f"systemctl show --value -p Before {UNIT}",
        "modes": "find /usr/local/share/golden-idle /etc/golden-idle.json -perm /022 -o ! -user root",
        "boto3": "python3 -I -c 'import boto3'",
    })


@pytest.fixture(scope="module")
def running(gather: Any) -> Any:
    """What the agent says, of a boot's or of one that is started for this."""
    return gather({
        "started": STARTED, "status": ASKED,
        "unit": f"systemctl show {UNIT} " + " ".join(f"-p {name}" for name in PROPERTIES),
        "held": "golden-idle hold 30m the tests look && ls /run/golden-idle/holds && golden-idle release",
        "endless": "golden-idle hold forever the tests look",
        "folder": "stat -c %a /run/golden-idle/holds",
        "stopped": STOPPED,
    })


def test_settings_are_the_lock_s(facts: Any, lock: dict[str, Any]) -> None:
    found = json.loads(facts["settings"].text)
    assert found.pop("poweroff_command") == ["systemctl", "poweroff"]
    assert found == {name.removeprefix("golden_idle_"): value for name, value in lock.items()
                     if name.startswith("golden_idle_")}
    assert facts["checked"].status == 0, facts["checked"].text


def test_only_root_writes_what_root_runs(facts: Any) -> None:
    assert facts["modes"].text == ""


def test_unit_is_enabled_and_nothing_but_the_target_waits_for_it(facts: Any) -> None:
    assert facts["enabled"].text == "enabled"
    assert set(facts["ordered"].text.split()) <= {"multi-user.target", "shutdown.target"}


def test_library_of_aws_is_the_distribution_s(facts: Any) -> None:
    assert facts["boto3"].status == 0, facts["boto3"].text


def test_agent_counts_a_machine_that_it_hardly_knows_as_busy(
    running: Any, lock: dict[str, Any]
) -> None:
    assert running["started"].status == 0 and running["status"].status == 0, running["status"].text
    state, why = running["status"].lines
    found = json.loads(state)
    assert (found["idle"], found["action"], found["stage"]) == (
        False,
        lock["golden_idle_action"],
        "busy",
    )
    assert why.startswith("busy: ")


def test_unit_is_well_and_within_its_memory(running: Any) -> None:
    unit = dict(line.split("=", 1) for line in running["unit"].lines)
    assert (unit["Result"], unit["NRestarts"], unit["MemoryMax"]) == (
        "success",
        "0",
        str(256 << 20),
    )


def test_users_hold_and_release(running: Any) -> None:
    assert running["held"].status == 0 and "holds taken back: 1" in running["held"].text, running[
        "held"
    ].text
    assert (
        running["endless"].status == 2
        and "does not say when the hold ends" in running["endless"].text
    )
    assert running["folder"].text == "1777"
