"""What lies in a folder: files by path, and what is left out by reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

STATE = ".golden-keep"
"""The folder in `keep` for the program's own files. It is not copied."""
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MOST_KEY, MOST_SIZE = 1024, 5 << 40
"""Bytes of an object's key, and of an object that each s3transfer can send."""


class File(NamedTuple):
    """A file as its folder says. Two looks that are equal are of one content."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    @classmethod
    def of(cls, path: str, found: os.stat_result) -> File:
        """Return the file of a status."""
        return cls(
            path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode
        )


def scan(top: Path, prefix: str) -> tuple[dict[str, File], dict[str, str]]:
    """Return the files below `top`, and why others are left out, both by path.

    `prefix` comes before a path in its object's key.
    """
    files, left_out, folders = dict[str, File](), dict[str, str](), [""]
    device, most = top.stat().st_dev, MOST_KEY - len(prefix)
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(f"{top}/{folder}")
        except OSError as error:
            left_out[folder] = str(error.strerror)
            continue
        with entries:
            for entry in entries:
                path = folder + entry.name
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone since its folder was read
                if reason := _reason(path, found, most):
                    left_out[path] = reason
                elif not stat.S_ISDIR(found.st_mode):
                    files[path] = File.of(path, found)
                elif found.st_dev != device:
                    left_out[path] = "another file system"
                elif path != STATE:
                    folders.append(path + "/")
    return files, left_out


def _reason(path: str, found: os.stat_result, most: int) -> str:
    kind = stat.S_IFMT(found.st_mode)
    if kind in _KINDS:
        return _KINDS[kind]
    try:
        if len(path.encode()) > most:
            return f"its path is longer than {most} bytes"
    except UnicodeEncodeError:
        return "its name is no UTF-8"
    return "larger than 5 TiB" if found.st_size > MOST_SIZE else ""


def shown(path: str) -> str:
    """Return the path in one line of printable characters."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in path
    )
