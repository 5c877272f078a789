"""The seal's check of a tree at rest: silent on a sealed tree, and it names what is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core.errors import StageFailed
from goldenami.local.tree import sealed

PROGRAM = Path(__file__).resolve().parents[2] / "roles/seal/files/seal.py"

HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The few files that a sealed tree must have."""
    for name in ("etc", "root", "home", "var/log", "var/lib/dbus", "tmp", "boot"):
        (tmp_path / name).mkdir(parents=True)
    for name, text in {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/shadow": "root:!:1:0:99999:7:::\n",
        "etc/gshadow": "root:!::\n", "etc/machine-id": "", "etc/hosts": HOSTS, "etc/resolv.conf": "",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    return tmp_path


@pytest.mark.parametrize(("name", "text"), [
    ("etc/ssh/ssh_host_ed25519_key", "key"), ("root/.ssh/authorized_keys", "ssh-ed25519 AAAA x"),
    ("root/.bash_history", "ls"), ("var/lib/apt/lists/x_Packages", ""), ("var/cache/apt/archives/x.deb", ""),
    ("var/lib/cloud/data/instance-id", "i-0"), ("var/lib/systemd/random-seed", "x"), ("etc/passwd-", "x"),
    ("var/log/journal/0/system.journal", "x"), ("var/lib/dkms/mok.key", "x"), ("root/.netrc", "x"), ("tmp/x", ""),
    ("etc/apt/sources.list.d/golden-bake.sources", "Types: deb"), ("swapfile", "x"), ("var/crash/x", "x"),
])
def test_what_is_left_is_named(tree: Path, name: str, text: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text, encoding="utf-8")
    with pytest.raises(StageFailed, match="the tree is not sealed") as caught:
        sealed.check(tree, PROGRAM)
    top = "/".join(name.split("/")[:2])
    assert top in caught.value.tail, caught.value.tail


def test_a_machine_id_and_a_password_are_named(tree: Path) -> None:
    (tree / "etc/machine-id").write_text("0" * 32, encoding="utf-8")
    (tree / "etc/shadow").write_text("root:$6$salt$hash:1:0:99999:7:::\n", encoding="utf-8")
    with pytest.raises(StageFailed) as caught:
        sealed.check(tree, PROGRAM)
    assert "machine-id" in caught.value.tail
    assert "shadow" in caught.value.tail


def test_a_sealed_tree_passes(tree: Path) -> None:
    try:
        sealed.check(tree, PROGRAM)
    except StageFailed as error:
        pytest.fail(error.tail)
