"""A root tree as a sorted list of entries: streamed as a tar, listed as a manifest. Both depend on
nothing but the tree.

The format is POSIX.1-2001 pax as GNU tar and libarchive read it; extended attributes are in
`SCHILY.xattr.` records (libarchive, "Tar formats").
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from goldenami.core import records
from goldenami.core.errors import StageFailed
from goldenami.local.tree.owners import packages

CAPABILITY = "security.capability"
"""The one extended attribute that `mke2fs -d tar` keeps; it silently drops every other one."""

CHUNK_BYTES = 1 << 20
"""Read size: large enough that system calls do not show in a profile."""

SHOWN = 5
"""Paths named in an error; more of them do not help to find the cause."""

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
_TAR_TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "character": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}


@dataclass(frozen=True)
class Entry:
    """One path below the root. `target` is a symlink's text, or the first path of a hard link. The
    content of an entry that is `apart` is not in the tar."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    allocated: int
    target: str = ""
    device: tuple[int, int] = (0, 0)
    capability: bytes = b""
    apart: bool = False


def scan(tree: Path) -> list[Entry]:
    """Return every path below `tree` in byte order, parents first, `.` at the head, without
    sockets.

    Raises StageFailed with the paths whose extended attributes the disk could not keep.
    """
    first: dict[tuple[int, int], str] = {}
    refused: list[str] = []
    scanned = (_entry(tree, path, first, refused) for path in _walk(tree, "."))
    entries = [entry for entry in scanned if entry is not None]
    if refused:
        more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise StageFailed(
            f"{len(refused)} paths have extended attributes that a disk would lose: "
            f"{', '.join(refused[:SHOWN])}{more}",
            hint=f"let a role remove them (`setfattr -x`, `setfacl -b`); only {CAPABILITY} is kept",
        )
    return entries


def _walk(tree: Path, path: str) -> Iterator[str]:
    yield path
    with os.scandir(tree / path) as items:
        children = sorted(
            (os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in items
        )
    for name, is_directory in children:
        child = f"{path}/{os.fsdecode(name)}"
        if is_directory:
            yield from _walk(tree, child)
        else:
            yield child


def _entry(
    tree: Path, path: str, first: dict[tuple[int, int], str], refused: list[str]
) -> Entry | None:
    """Return the entry of a path, or None for a socket. `first` has the first path of each inode,
    and `refused` gets the attributes that no disk keeps."""
    real = tree / path
    status = real.lstat()
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    attributes = os.listxattr(real, follow_symlinks=False)
    refused += [f"{path[1:] or '/'} ({name})" for name in attributes if name != CAPABILITY]
    target = os.readlink(real) if kind == "symlink" else ""  # noqa: PTH115 - a Path would not keep `./x//y/`
    if kind != "directory" and status.st_nlink > 1:
        first_path = first.setdefault((status.st_dev, status.st_ino), path)
        if first_path != path:
            kind, target = "hardlink", first_path
    size = status.st_size if kind == "file" else 0
    allocated = status.st_blocks * 512 if kind != "hardlink" else 0
    number = status.st_rdev if kind in ("character", "block") else 0
    capability = b""
    if CAPABILITY in attributes:
        capability = os.getxattr(real, CAPABILITY, follow_symlinks=False)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=size,
        mtime=int(status.st_mtime),
        target=target,
        capability=capability,
        allocated=allocated,
        device=(os.major(number), os.minor(number)),
    )


def stream_tar(
    tree: Path, entries: Sequence[Entry], sink: BinaryIO, *, epoch: int
) -> dict[str, str]:
    """Write `entries` to `sink` as a pax archive, and return the SHA-256 of each regular file by
    path.

    Modification times are whole seconds, at most `epoch` (seconds since 1970). Raises StageFailed
    if a file changes while it is read.
    """
    digests: dict[str, str] = {}
    for entry in entries:
        sink.write(_header(entry, epoch))
        if entry.kind == "file" and not entry.apart:
            digests[entry.path] = _content(tree, entry, sink)
            sink.write(b"\0" * (-entry.size % tarfile.BLOCKSIZE))
    # Two empty blocks end a tar.
    sink.write(b"\0" * (2 * tarfile.BLOCKSIZE))
    return digests


def _header(entry: Entry, epoch: int) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type = _TAR_TYPES[entry.kind]
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.size, info.mtime = entry.size, min(entry.mtime, epoch)
    info.linkname = entry.target
    info.devmajor, info.devminor = entry.device
    if not (entry.path + entry.target).isascii():
        # Without it libarchive translates names to the locale's charset, and gives up on the first
        # name that it cannot translate.
        info.pax_headers = {"hdrcharset": "BINARY"}
    if entry.capability:
        info.pax_headers = {
            "hdrcharset": "BINARY",
            f"SCHILY.xattr.{CAPABILITY}": entry.capability.decode("utf-8", "surrogateescape"),
        }
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(tree: Path, entry: Entry, sink: BinaryIO | None) -> str:
    """Return the SHA-256 of a file's content, and copy it to `sink` unless that is None."""
    digest = hashlib.sha256()
    size = 0
    with (tree / entry.path).open("rb", buffering=0) as source:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            digest.update(chunk)
            if sink is not None:
                sink.write(chunk)
    if size != entry.size:
        raise StageFailed(
            f"{entry.path[1:]} changed from {entry.size} to {size} bytes while it was read",
            hint="stop the container before its tree becomes a disk",
        )
    return digest.hexdigest()


@dataclass(frozen=True)
class FilesOnDisk:
    """Digests (SHA-256) of files and the bytes that they take, by path, as known since they were
    written to the disk."""

    digests: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, int] = field(default_factory=dict)


def write_manifest(
    tree: Path,
    path: Path,
    entries: Sequence[Entry],
    files: FilesOnDisk,
    *,
    boot: Mapping[str, Any],
) -> None:
    """Write `entries` of `tree` to `path` as JSON, one line an entry: equal trees give equal bytes.

    Files without a digest in `files` are read. `boot` is what boots the disk (see `boot_regions`).
    A row has `stored`, the file's bytes on the disk, if holes make them fewer than its size.
    """
    owners = packages(tree)
    lines = [json.dumps(_row(tree, entry, files, owners), sort_keys=True) for entry in entries]
    head = f'"boot": {json.dumps(boot, sort_keys=True)},\n'
    records.write_text(path, f'{{{head}"entries": [\n' + ",\n".join(lines) + '\n], "format": 1}\n')


def _row(
    tree: Path,
    entry: Entry,
    files: FilesOnDisk,
    owners: Mapping[str, str],
) -> dict[str, object]:
    path = entry.path[1:]
    row: dict[str, object] = {
        "path": path or "/",
        "type": entry.kind,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
    }
    if entry.kind == "file":
        row["size"] = entry.size
        row["sha256"] = files.digests.get(entry.path) or _content(tree, entry, None)
    if files.stored.get(entry.path, entry.size) < entry.size:
        row["stored"] = files.stored[entry.path]
    if entry.target:
        row["target"] = entry.target[1:] if entry.kind == "hardlink" else entry.target
    if entry.kind in ("character", "block"):
        row["device"] = list(entry.device)
    if entry.capability:
        row["capability"] = entry.capability.hex()
    if entry.kind != "directory" and path in owners:
        row["package"] = owners[path]
    return row
