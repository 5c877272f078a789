"""The agent in the image: its settings are the lock's, its unit is enabled, and where it runs it
says what it thinks.

In a container the bake has enabled it and never let it run; it is started for the tests, and
stopped again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

UNIT = "golden-idle.service"
ASKED = (
    "for _ in $(seq 60); do golden-idle status --json 2>/dev/null && break; sleep 1; done; "
    "golden-idle status --json >/dev/null && golden-idle why"
)
"""A sample is taken each ten seconds, so the first answer takes that long."""


@pytest.fixture(scope="module")
def agent(host: Any) -> Iterator[Any]:
    """The machine while the agent runs: a boot's, or one that is started for this."""
    started = host.service(UNIT).is_running
    if not started:
        host.check_output(f"systemctl start {UNIT}")
    yield host
    if not started:
        host.check_output(f"systemctl stop {UNIT}")


def test_settings_are_the_lock_s(host: Any, lock: dict[str, Any]) -> None:
    found = json.loads(host.file("/etc/golden-idle.json").content_string)
    assert found.pop("poweroff_command") == ["systemctl", "poweroff"]
    assert found == {
        name.removeprefix("golden_idle_"): value
        for name, value in lock.items()
        if name.startswith("golden_idle_")
    }
    checked = host.run("golden-idle check")
    assert checked.succeeded, checked.stdout + checked.stderr


def test_only_root_writes_what_root_runs(host: Any) -> None:
    assert (
        host.check_output(
            "find /usr/local/share/golden-idle /etc/golden-idle.json -perm /022 -o ! -user root"
        )
        == ""
    )


def test_unit_is_enabled_and_nothing_but_the_target_waits_for_it(host: Any) -> None:
    unit = host.service(UNIT)
    assert unit.is_enabled
    before = unit.systemd_properties.get("Before", "").split()
    assert set(before) <= {"multi-user.target", "shutdown.target"}


def test_units_that_copy_what_users_keep_wait_to_be_started(host: Any) -> None:
    """One runs as the user whose number it has, and gains no rights."""
    units = ("golden-keep@1000.service", "golden-keep-end.service")
    found = {unit: host.service(unit).systemd_properties for unit in units}
    assert {unit: each["UnitFileState"] for unit, each in found.items()} == dict.fromkeys(
        units, "static"
    )
    copies = found["golden-keep@1000.service"]
    wanted = {"User": "1000", "NoNewPrivileges": "yes", "MemoryMax": str(512 << 20)}
    assert {name: copies[name] for name in wanted} == wanted


def test_a_new_user_has_the_folder_that_is_kept(host: Any) -> None:
    folder = host.file("/etc/skel/keep")
    assert folder.is_directory and (folder.user, folder.mode) == ("root", 0o755)


def test_golden_keep_says_in_one_line_what_is_missing(user: Any, lock: dict[str, Any]) -> None:
    """Root owns no folder that is kept. A person's is copied nowhere without the setting."""
    if lock["golden_idle_keep"]:
        pytest.skip("not asked: the image says where files are copied to")
    told = user.run("golden-keep status")
    missing = "you have no folder that is kept: "
    if user.check_output("id -u") != "0":
        missing = "nothing is kept: set golden_idle_keep "
    assert told.rc == 2
    assert told.stderr.startswith(f"golden-keep: error: {missing}")
    assert told.stderr.count("\n") == 1, told.stderr


def test_library_of_aws_is_the_distribution_s(host: Any) -> None:
    imported = host.run("python3 -I -c 'import boto3'")
    assert imported.succeeded, imported.stderr


def test_agent_counts_a_machine_that_it_hardly_knows_as_busy(
    agent: Any, lock: dict[str, Any]
) -> None:
    state, why = agent.check_output(ASKED).splitlines()
    found = json.loads(state)
    assert (found["idle"], found["action"], found["stage"]) == (
        False,
        lock["golden_idle_action"],
        "busy",
    )
    assert why.startswith("busy: ")


def test_unit_is_well_and_within_its_memory(agent: Any) -> None:
    wanted = {"Result": "success", "NRestarts": "0", "MemoryMax": str(256 << 20)}
    found = agent.service(UNIT).systemd_properties
    assert {name: found[name] for name in wanted} == wanted


def test_users_hold_and_release(agent: Any) -> None:
    held = agent.run(
        "golden-idle hold 30m the tests look && ls /run/golden-idle/holds && golden-idle release"
    )
    assert held.succeeded and "holds taken back: 1" in held.stdout, held.stdout + held.stderr
    endless = agent.run("golden-idle hold forever the tests look")
    assert endless.rc == 2
    assert "does not say when the hold ends" in endless.stdout + endless.stderr
    assert agent.file("/run/golden-idle/holds").mode == 0o1777
