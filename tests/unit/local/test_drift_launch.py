"""What a launch made is held to what EC2 says of the launch, its user data included."""

from __future__ import annotations

import pytest
from goldenami.local.drift import comparison, disk_records
from goldenami.local.drift.disk_records import DiskRecord, DiskVerdict, MadeAtLaunch
from goldenami.local.drift.launched_with import UNKNOWN, LaunchedWith
from goldenami.local.drift.may_differ import MayDiffer
from goldenami.local.reader.path_state import PathState
from support.drift.user_data import NAME, SECOND, USER_DATA

KEYS, HOSTNAME = "/home/debian/.ssh/authorized_keys", "/etc/hostname"
MINE, OTHER = (f"ssh-ed25519 AAAAC3NzaC1lZDI1{name}" for name in ("mine", "other"))


def said(
    path: str, text: str, launch: LaunchedWith, mode: int = 0o600, uid: int = 1000
) -> list[str]:
    found = PathState(path, "file", mode, uid, uid, size=len(text), text=text, sha256="0" * 64)
    made = MayDiffer({}).made(path)
    assert made
    return comparison.of_made(found, made, launch)


@pytest.mark.parametrize("kind", USER_DATA)
def test_a_key_is_the_launch_s_or_one_that_user_data_names(kind: str) -> None:
    launch = LaunchedWith(USER_DATA[kind], f"{MINE} golden")
    assert said(KEYS, f"{MINE} golden\n{SECOND} müller\n", launch) == []
    named = ["content: not the key of the launch"]
    assert said(KEYS, f"{MINE} golden\n{OTHER} x\n", launch) == named
    assert said(KEYS, f"{MINE}x golden\n", launch) == named
    assert said(KEYS, f"{OTHER} {MINE}\n", launch) == named


def test_without_user_data_the_key_is_the_launch_s() -> None:
    assert said(KEYS, f"{MINE} golden\n", LaunchedWith(b"", MINE)) == []
    assert said(KEYS, f"{SECOND} x\n", LaunchedWith(b"", MINE)) != []
    assert said(KEYS, f"{SECOND} x\n", UNKNOWN) == []


@pytest.mark.parametrize("kind", USER_DATA)
def test_the_name_is_ec2_s_or_one_that_user_data_gives(kind: str) -> None:
    def name(text: str, data: bytes = USER_DATA[kind]) -> list[str]:
        launch = LaunchedWith(data, None, "ip-10-0-0-7.ec2.internal")
        return said(HOSTNAME, f"{text}\n", launch, 0o644, 0)

    assert name("ip-10-0-0-7") == name("ip-10-0-0-7.ec2.internal") == name(NAME) == []
    assert name("other") == name(NAME, b"") == ["content: not the hostname of the launch"]


@pytest.mark.parametrize(
    ("mode", "uid", "what"),
    [
        (0o644, 1000, "mode: 0644, may be 0600"),
        (0o600, 33, "owner: 33:33, may be person"),
        (0o600, 0, "owner: 0:0, may be person"),
    ],
)
def test_who_may_write_what_a_launch_made(mode: int, uid: int, what: str) -> None:
    assert said(KEYS, f"{MINE}\n", UNKNOWN, mode, uid) == [what]


def test_a_file_that_the_siblings_of_a_machine_have_otherwise_is_named() -> None:
    def looked_at(disk: str, digit: str) -> DiskRecord:
        rows = [
            MadeAtLaunch(path=path, sha256=digit * 64, why="x", alike=alike)
            for path, alike in (("/etc/alike", True), ("/etc/machine-id", False))
        ]
        return DiskRecord(
            image="x",
            build_id="0" * 12,
            manifest_sha256="0" * 64,
            disk=disk,
            looked_at="2026-11-30T12:00:00Z",
            verdict=DiskVerdict.AS_BAKED,
            paths=1,
            drift=[],
            passed=[],
            made=rows,
            data=[],
            starts=[],
            unseen=[],
        )

    siblings = [looked_at("i-1", "1"), looked_at("i-2", "1"), looked_at("i-3", "3")]
    assert list(disk_records.unlike(looked_at("i-4", "1"), siblings)) == []
    assert list(disk_records.unlike(looked_at("i-3", "3"), siblings)) == [
        "/etc/alike is not that of its siblings: 0 of 2 have it so"
    ]
