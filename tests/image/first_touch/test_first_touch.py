"""Reading ahead: the list names what the image has, the program reads it, and the unit is well and
in nobody's way."""

from __future__ import annotations

import re
from typing import Any

import pytest

LIST = "/usr/local/share/golden-first-touch.tsv"
UNIT = "golden-first-touch.service"
PROGRAM = """
import json, os, sys
rows = [line.rstrip("\\n").split("\\t") for line in open(sys.argv[1], encoding="utf-8")]
wrong = [path for path, parts in rows if not os.path.isfile(path) or not parts or any(
    int(part.split("+")[0]) + int(part.split("+")[1]) > os.stat(path).st_size
    for part in parts.split())]
print(json.dumps({"paths": [path for path, _ in rows], "wrong": wrong, "bytes": [
    sum(int(part.split("+")[1]) for part in parts.split()) for _, parts in rows]}))
"""
SOME = 40
"""Files of the list that the program is made to read."""


@pytest.fixture(scope="module")
def found(run_program: Any) -> Any:
    return run_program(PROGRAM, LIST)


def test_unit_is_the_lock_s_and_nothing_but_the_target_waits_for_it(
    host: Any, lock: dict[str, Any]
) -> None:
    unit = host.service(UNIT)
    assert unit.is_enabled == lock["first_touch_enabled"]
    start = host.check_output(f"systemctl cat {UNIT} | grep ^ExecStart=")
    assert start.split()[1:] == [
        LIST,
        "--depth",
        str(lock["first_touch_depth"]),
        "--slow-ms",
        str(lock["first_touch_slow_ms"]),
    ]
    before = unit.systemd_properties.get("Before", "").split()
    assert set(before) <= {"multi-user.target", "shutdown.target"}


def test_list_names_files_of_the_image_within_their_size(found: dict[str, Any]) -> None:
    assert found["wrong"] == []
    assert found["paths"] == sorted(set(found["paths"]))


def test_list_has_the_libraries_of_each_framework_that_was_not_compiled(
    found: dict[str, Any],
    lock: dict[str, Any],
) -> None:
    for framework in lock.get("frameworks_installed", []):
        inside = [
            path
            for path in found["paths"]
            if path.startswith(f"/opt/ml/{framework['environment']}/")
            and f"/{framework['module']}/" in path
        ]
        assert bool(inside) == (framework["origin"] != "source"), framework["name"]


def test_program_reads_what_is_listed(host: Any, found: dict[str, Any]) -> None:
    # Some files are enough: an emulated machine takes minutes for all.
    forced = host.check_output(
        f"head -n {SOME} {LIST} > /run/some.tsv; /usr/local/libexec/golden-first-touch "
        "/run/some.tsv --slow-ms 0.000001 2>&1; rm /run/some.tsv"
    )
    count, files = sum(found["bytes"][:SOME]), len(found["bytes"][:SOME])
    said = (
        f"read {count / 1e6:.0f} MB of {files} files in "
        if files
        else "nothing to read: the list is empty"
    )
    assert forced.startswith(said), forced


@pytest.mark.usefixtures("needs_boot")
def test_unit_is_well(host: Any, lock: dict[str, Any], settled: str, record_values: Any) -> None:
    """It may still read: an emulated machine that is busy answers as slowly as a volume that is
    being loaded."""
    if not lock["first_touch_enabled"]:
        pytest.skip("the image leaves it off")
    state = host.service(UNIT).systemd_properties
    assert (state["Result"], state["ExecMainStatus"], state["ConditionResult"]) == (
        "success",
        "0",
        "yes",
    )
    if state["ActiveState"] == "inactive":
        said = host.check_output(
            "journalctl --output=cat --unit=golden-first-touch --identifier=golden-first-touch"
        )
        assert said.startswith(("read ", "nothing to read: "))
        if seconds := re.search(r" in ([0-9.]*[1-9][0-9.]*) s", said):
            record_values("first touch", "s", [float(seconds[1])])
