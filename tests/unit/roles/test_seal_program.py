"""roles/seal's program on a scratch tree: it removes what is listed, keeps the rest, and then has
nothing to say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from support import files

PROGRAM = Path(__file__).resolve().parents[3] / "roles/seal/files/seal.py"
EPOCH = 1_760_000_000
DAY = str(EPOCH // 86400)

LITTER = (
    "root/.bash_history",
    "home/debian/.python_history",
    "home/debian/.ssh/authorized_keys",
    "srv/robot/.netrc",
    "home/left/.cache/pip/x",
    "etc/ssh/ssh_host_rsa_key",
    "etc/apt/sources.list.d/golden-bake.sources",
    "var/log/apt/history.log",
    "var/log/wtmp",
    "var/log/journal/0/system.journal",
    "var/tmp/.hidden",
    "etc/passwd-",
    "root/.ssh/id_ed25519",
    "var/lib/dkms/nvidia/1.0/build/nv.o",
    "var/lib/cloud/instance/id",
    "etc/hostname",
    "etc/nvme/hostid",
    "etc/docker/key.json",
    "var/lib/docker/engine-id",
    "var/lib/docker/containers/0/0-json.log",
    "var/lib/jupyterhub/jupyterhub_cookie_secret",
    "var/lib/dkms/mok.key",
    "swapfile",
    "var/crash/x",
    "var/lib/apt/lists/x_Packages",
)
KEPT = (
    "etc/ssh/sshd_config",
    "etc/docker/daemon.json",
    "var/lib/docker/overlay2/0/diff/x",
    "var/lib/apt/extended_states",
    "home/debian/x",
    "var/lib/dkms/nvidia/1.0/source/nv.c",
    "usr/share/netplan/netplan_cli/x.py",
)


def seal(root: Path, *options: str) -> list[str]:
    argv = [
        sys.executable,
        "-I",
        "-B",
        str(PROGRAM),
        "--root",
        str(root),
        *(options or ("--epoch", str(EPOCH))),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    files.write(root, dict.fromkeys((*LITTER, *KEPT), "litter\n"))
    for name in ("tmp", "boot", "var/lib/dbus", "var/lib/apt/lists/partial", "usr/lib/systemd"):
        (root / name).mkdir(parents=True)
    (root / "usr/lib/systemd/systemd-resolved").touch()
    users = {
        "root": "/root",
        "ann": "/home/debian",
        "robot": "/srv/robot",
        "nobody": "/nonexistent",
    }
    write(root, "etc/passwd", *(f"{user}:x:0:0::{home}:/bin/sh" for user, home in users.items()))
    write(
        root,
        "etc/shadow",
        "root:$6$salt$hash:1:0:99999:7:::",
        "ann::1:0:::::",
        "robot:!:1::::::",
        "nobody:*:1::::::",
    )
    write(root, "etc/gshadow", "root:*::", "staff::ann:ann", "wheel:$6$x$y::")
    write(root, "etc/machine-id", "0" * 32)
    return root


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_litter_goes_and_is_named_and_the_rest_stays(tree: Path) -> None:
    checked, said = seal(tree, "--check"), seal(tree)
    assert [name for name in LITTER if (tree / name).exists()] == []
    for lines in (checked, said):
        assert [name for name in LITTER if not _is_named(name, lines)] == []
    assert any("shadow" in line for line in checked), "a password is named"
    assert [name for name in KEPT if not (tree / name).exists()] == []
    assert (tree / "var/log/journal").is_dir()
    assert (tree / "var/lib/apt/lists/partial").is_dir()


def _is_named(name: str, lines: list[str]) -> bool:
    """Whether a line is about the file, or about a folder that goes with all that is in it."""
    paths = {f"/{name}", *(f"/{folder}" for folder in Path(name).parents)}
    return any(line.partition(": ")[2].partition(" (")[0] in paths for line in lines)


def test_a_second_run_changes_nothing(tree: Path) -> None:
    assert seal(tree)
    assert seal(tree) == []
    assert seal(tree, "--check") == []


def test_what_packages_left_uncompiled_is_compiled_without_a_time(tree: Path) -> None:
    assert any(
        "bytecode: /usr/share/netplan/netplan_cli/__pycache__/x." in line for line in seal(tree)
    )
    source = tree / "usr/share/netplan/netplan_cli/x.py"
    compiled = Path(importlib.util.cache_from_source(str(source))).read_bytes()
    checked_by_hash = (3).to_bytes(4, "little")  # PEP 552
    assert compiled[4:16] == checked_by_hash + importlib.util.source_hash(source.read_bytes())


def test_a_check_changes_nothing(tree: Path) -> None:
    first, second = seal(tree, "--check"), seal(tree, "--check")
    assert first == second != []
    assert (tree / "root/.bash_history").exists()


def test_passwords_lose_their_hash_and_their_day(tree: Path) -> None:
    seal(tree)
    shadow = [
        line.split(":")[:3]
        for line in (tree / "etc/shadow").read_text(encoding="utf-8").splitlines()
    ]
    assert shadow == [
        ["root", "!*", DAY],
        ["ann", "!*", DAY],
        ["robot", "!", DAY],
        ["nobody", "*", DAY],
    ]
    assert "$6$" not in (tree / "etc/gshadow").read_text(encoding="utf-8")


@pytest.mark.parametrize("before", ["none", "other", "link", "open"])
def test_backup_of_shadow_is_its_copy(tree: Path, before: str) -> None:
    """A first boot's `passwd` would make it so."""
    shadow, backup = tree / "etc/shadow", tree / "etc/shadow-"
    shadow.chmod(0o640)
    if before == "link":
        backup.symlink_to(shadow)
    elif before == "open":
        seal(tree)
        backup.chmod(0o644)
    elif before == "other":
        backup.write_text("root::1:::::\n", encoding="utf-8")
        backup.chmod(0o640)
    assert "backups: /etc/shadow-" in seal(tree, "--check")
    assert "backups: /etc/shadow-" in seal(tree)
    assert backup.read_text(encoding="utf-8") == shadow.read_text(encoding="utf-8")
    assert backup.lstat().st_mode == shadow.lstat().st_mode
    assert seal(tree, "--check") == []


def test_root_s_folder_of_keys_stays_empty(tree: Path) -> None:
    seal(tree)
    assert list((tree / "root/.ssh").iterdir()) == []


def test_identity_is_neutral(tree: Path) -> None:
    seal(tree)
    assert (tree / "etc/machine-id").read_text(encoding="utf-8") == ""
    assert (tree / "var/lib/dbus/machine-id").readlink() == Path("/etc/machine-id")
    assert (tree / "etc/resolv.conf").readlink() == Path("../run/systemd/resolve/resolv.conf")
    assert f"TIMESTAMP_NSEC={EPOCH}000000000" in (tree / "etc/.updated").read_text(encoding="utf-8")


def test_a_link_is_removed_and_not_followed(tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tree / "tmp/link").symlink_to(outside)
    (tree / "root/.cache").symlink_to(outside)
    seal(tree)
    assert (outside / "precious").exists()
    assert not (tree / "tmp/link").is_symlink() and not (tree / "root/.cache").is_symlink()
