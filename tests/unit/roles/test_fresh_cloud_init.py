"""What the image removes before cloud-init starts: all that an earlier boot left but the notes on
what is done once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import files

PROGRAM = Path(__file__).resolve().parents[3] / "roles/os_updates/files/golden-fresh-cloud-init"
NOTES = (
    "sem/config_scripts_per_once.once",
    "sem/bootper.a name.once",
    "data/instance-id",
    "data/set-hostname",
    "data/previous-instance-id",
    "data/previous-datasource",
    "data/previous-hostname",
    "instances/i-0123/sem/consume_data",
    "instances/i-0456/sem/config_ssh",
)
LEFT = (
    "scripts/per-boot/x",
    "scripts/per-once/x",
    "scripts/vendor/x",
    "handlers/x.py",
    "seed/nocloud/user-data",
    "hotplug.enabled",
    "data/upgraded-network",
    "data/status.json",
    "data/previous-x/y",
    "sem/folder/x",
    "instances/sem",
    "instances/i-0123/obj.pkl",
    "instances/i-0123/scripts/runcmd",
    "instances/i-0123/boothooks/x",
    "instances/i-0123/handlers/__pycache__/x.pyc",
    "instances/i-0123/cloud-config.txt",
    "instances/i-0123/vendor-cloud-config.txt",
    "instances/i-0123/user-data.txt",
    "instances/i-0123/manual-clean",
    "instances/i-0123/sem/deep/sem/x",
    ".hidden",
    "a\nb/c",
)


def forget(folder: Path) -> list[str]:
    """Run it; returns what is left, but folders."""
    subprocess.run([PROGRAM, folder], check=True)
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    folder = tmp_path / "cloud"
    files.write(folder, dict.fromkeys((*NOTES, *LEFT), "x"))
    (folder / "instance").symlink_to("instances/i-0123")
    return folder


def test_notes_stay_and_all_else_goes(cloud: Path) -> None:
    assert forget(cloud) == sorted(NOTES)
    assert not (cloud / "scripts").exists() and not (cloud / "instances/i-0123/scripts").exists()
    assert forget(cloud) == sorted(NOTES)


def test_no_link_and_no_second_name_is_a_note(cloud: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    files.write(outside, {"file": "x", "sem/x": "x"})
    (cloud / "sem/link").symlink_to(outside / "file")
    (cloud / "data/previous-link").symlink_to(outside / "file")
    os.link(outside / "file", cloud / "sem/second-name")
    (cloud / "instances/linked").symlink_to(outside)
    os.mkfifo(cloud / "sem/pipe")
    assert forget(cloud) == sorted(NOTES)
    assert (outside / "file").exists() and (outside / "sem/x").exists()


@pytest.mark.parametrize("name", ["sem", "data", "instances", "instances/i-0123/sem"])
def test_link_in_a_folder_s_place_goes(cloud: Path, tmp_path: Path, name: str) -> None:
    (cloud / name).rename(tmp_path / "aside")
    (cloud / name).symlink_to(tmp_path / "aside")
    assert [path for path in forget(cloud) if path == name or path.startswith(f"{name}/")] == []
    assert any((tmp_path / "aside").iterdir())


def test_missing_folder_is_no_failure(tmp_path: Path) -> None:
    assert forget(tmp_path / "cloud") == []


def test_what_cannot_be_removed_stops_cloud_init(cloud: Path) -> None:
    """By a mount: to root nothing else is closed."""
    there = cloud / "scripts"
    script = 'mount -t tmpfs none "$1" && exec "$2" "$3"'
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            there,
            PROGRAM,
            cloud,
        ],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 1 and b"scripts" in done.stderr
