"""What can be done to a mounted image, each kind keeping the times that people look at; and what a
launch does."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

from goldenami.core import shell

Made = list[tuple[str, str]]
"""Paths that have to be named, each with the beginning of one of its differences."""
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service=ep, revision 2 (linux/capability.h)."""
_NOBODY = 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 6, _NOBODY),
        (2, 7, 1000),
        (4, 4, _NOBODY),
        (16, 7, _NOBODY),
        (32, 4, _NOBODY),
    )
)
"""rwx for user 1000, as setxattr(2) takes it (linux/posix_acl_xattr.h)."""


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _replaced(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (_flipped, "content: same size"),
    "more content": (lambda path: path.write_bytes(path.read_bytes() + b"\n"), "content: "),
    "less content": (lambda path: os.truncate(path, path.stat().st_size - 1), "content: "),
    "mode": (lambda path: path.chmod(0o666), "mode: 0644, now 0666"),
    "set-id": (lambda path: path.chmod(0o4755), "mode: 0644, now 4755"),
    "owner": (lambda path: os.chown(path, 1000, 0), "owner: 0:0, now 1000:0"),
    "group": (lambda path: os.chown(path, 0, 27), "owner: 0:0, now 0:27"),
    "removed": (lambda path: path.unlink(), "removed"),
    "a link in its place": (
        lambda path: _replaced(path, lambda at: at.symlink_to("/tmp/x")),
        "type: file, now symlink",
    ),
    "a pipe in its place": (lambda path: _replaced(path, _fifo), "type: file, now fifo"),
    "a folder in its place": (
        lambda path: _replaced(path, lambda at: at.mkdir()),
        "type: file, now directory",
    ),
    "a device in its place": (
        lambda path: _replaced(path, lambda at: os.mknod(at, 0o20666, os.makedev(1, 1))),
        "type: file, now character",
    ),
    "another name of it": (lambda path: os.link(path, path.with_name(f"{path.name}-b")), ""),
    "capability": (
        lambda path: os.setxattr(path, "security.capability", CAPABILITY),
        "capability: none, now ",
    ),
    "attribute": (lambda path: os.setxattr(path, "user.x", b"y"), "attribute user.x: none, now 79"),
    "ACL": (
        lambda path: os.setxattr(path, "system.posix_acl_access", ACL),
        "ACL: none, now user::rw-,user:1000:rwx",
    ),
    "immutable": (
        lambda path: shell.output(["chattr", "+i", str(path)]),
        "inode flags: none, now immutable",
    ),
    "append only": (
        lambda path: shell.output(["chattr", "+a", str(path)]),
        "inode flags: none, now append only",
    ),
    "added": (
        lambda path: path.with_name(f"{path.name}-c").write_text("new", encoding="utf-8"),
        "",
    ),
    "holes": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "content: same size"),
}


def tamper(tree: Path, files: list[str], seed: int) -> Made:
    """Each kind once, to another of `files`; times of files and folders are as before."""
    chosen, made = random.Random(seed).sample(files, len(KINDS)), Made()
    for (name, (change, said)), path in zip(KINDS.items(), chosen, strict=True):
        real = tree / path[1:]
        before, folder = real.stat(), real.parent.stat()
        change(real)
        if name not in ("immutable", "append only", "removed", "a link in its place"):
            os.utime(real, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.utime(real.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))
        made.append(
            (path, said)
            if said
            else (f"{path}-b" if name == "another name of it" else f"{path}-c", "added: ")
        )
    return made


def launch(tree: Path) -> None:
    """What a first boot and a day leave: cloud-init's files, host keys, a home, logs, caches."""
    (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n", encoding="utf-8")
    (tree / "etc/hostname").write_text("ip-10-0-0-7\n", encoding="utf-8")
    for name, text, mode in (
        ("etc/ssh/ssh_host_ed25519_key", "PRIVATE KEY\n", 0o600),
        ("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAC3Nz root@ip-10-0-0-7\n", 0o644),
        ("home/debian/.ssh/authorized_keys", "ssh-ed25519 AAAAC3Nz launch\n", 0o600),
        ("home/debian/.cache/x.pyc", "own", 0o644),
        ("root/.bash_history", "id\n", 0o600),
        ("root/.docker/buildx/current", "{}", 0o600),
        ("var/log/journal/x/system.journal", "log", 0o640),
        ("var/lib/systemd/random-seed", "seed", 0o600),
        ("tmp/own", "x", 0o600),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
        (tree / name).chmod(mode)
    (tree / "home/debian/.ssh").chmod(0o700)
    for path in (tree / "home/debian", *(tree / "home/debian").rglob("*")):
        os.chown(path, 1000, 1000)
