"""Find what a bake left in a sealed tree, by three rules: a search for known names would miss what
nobody thought of.

1. Homes hold what skel has, and nothing else.
2. Every other file is a package's or a wheel's, is named by a package's own scripts, is brought by
   a role, or declared.
3. What was written here holds no key, token or password that `secret_patterns` knows. This covers
   texts, the printable parts of other files, names, targets of links, and extended attributes. Not
   searched are files that are as their package has them, except those of /etc; programs and byte
   code; packages' files that are no text; and files of more than READ_BYTES.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from goldenami.local.tree import declared_files, owners, packed_text, secret_patterns

READ_BYTES = 128 << 20
"""Larger files are archives of third parties' containers, and hold what those have."""
_PYC = re.compile(r"^(.*)/__pycache__/([^/]+?)\.[a-z]+-\d+(?:\.opt-\d)?\.pyc$")
_PATHS = re.compile(r"/(?:etc|var|usr)/[\w./+@-]*\w")
ACCESS, KEYS = "authorized key", "/etc/ssh/keys.d/"
"""secret_patterns' name for a line of authorized_keys, and the folder in which the role customize
keeps them."""
_DEBCONF = "/var/cache/debconf/passwords.dat"
"""File in which debconf keeps the answers to questions of the type `password`."""
_INDEX = "/usr/lib/udev/hwdb.bin"
"""File that systemd-hwdb makes from packages' texts: it puts their words beside others, which may
look like a secret."""
_CORE = 4
"""e_type of a core dump (elf(5))."""


def find(tree: Path, brought: Collection[str] = ()) -> list[str]:
    """Return one line for each file that should not be in `tree`: its path, and what is wrong.
    `brought` are patterns of the files that the image's roles bring."""
    owner_of = owners.packages(tree) | _diverted(tree)
    packed, named = _digests(tree), _scripts(tree)
    declared = [*brought, *itertools.chain(*declared_files.DECLARED.values())]
    is_declared = re.compile("|".join(map(_pattern, declared))).fullmatch
    private, lines = _homes(tree), list[str]()
    for path, status in _entries(tree):
        is_owned = path in owner_of
        beside = _beside(tree, path, status, is_owned=is_owned)
        if beside and (kind := secret_patterns.found(beside)):
            lines.append(f"{kind} in its name, target or attributes: {path}")
        if not stat.S_ISREG(status.st_mode):
            continue
        home = next((home for home in private if path.startswith(f"{home}/")), None)
        if home is not None and not is_owned:
            if path.removeprefix(f"{home}/") not in declared_files.HOME_FILES:
                lines.append(f"home: {path}")
                continue
        elif (
            not is_owned
            and not is_declared(path)
            and path not in named
            and not _compiled(path, owner_of)
        ):
            lines.append(f"nobody's file: {path}")
            continue
        digests = [] if path.startswith("/etc/") else packed.get(path, [])
        kind = _secret(tree, path, status, digests)
        # An authorized key is no secret if a definition names the users.
        if kind and not (kind == ACCESS and path in brought and path.startswith(KEYS)):
            lines.append(f"{kind}: {path}")
    return sorted(lines)


def _entries(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all paths of the tree with their status, except what is not on the disk."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{tree}{folder}/") as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}"
                yield path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False) and path not in declared_files.UNREAD:
                    folders.append(path)


def _beside(tree: Path, path: str, status: os.stat_result, *, is_owned: bool) -> bytes:
    """Return the text that a path has beside its content: a name that no package has, the target of
    a link, attributes of users."""
    inside = tree / path[1:]
    parts = [] if is_owned else [inside.name]
    if stat.S_ISLNK(status.st_mode):
        parts.append(str(inside.readlink()))
    texts = [os.fsencode(part) for part in parts]
    for name in os.listxattr(inside, follow_symlinks=False):
        if name.startswith(("user.", "trusted.")):
            value = os.getxattr(inside, name, follow_symlinks=False)
            texts.append(packed_text.readable(os.fsencode(name) + b"=" + value)[0])
    return b"\n".join(texts)


def _diverted(tree: Path) -> dict[str, str]:
    """Return files of packages by the names that dpkg-divert gave them, with their original
    names."""
    path = tree / "var/lib/dpkg/diversions"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    # Three lines each: the original name, the name that was given, the package that asked for it.
    return dict(zip(lines[1::3], lines[::3], strict=False))


def _digests(tree: Path) -> dict[str, list[str]]:
    """Return the MD5 (dpkg) or SHA-256 (wheels) in hex of each path as its package has it."""
    digests = dict[str, list[str]]()
    for listing in (tree / "var/lib/dpkg/info").glob("*.md5sums"):
        for line in listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            digest, _, path = line.partition("  ")
            digests.setdefault(owners.real(f"/{path}"), []).append(digest)
    for diverted, original in _diverted(tree).items():
        digests.setdefault(diverted, []).extend(digests.get(original, []))
    for record in owners.wheel_lists(tree):
        folder = record.parents[1].relative_to(tree)
        with record.open(encoding="utf-8", newline="") as rows:
            for path, digest, _ in csv.reader(rows):
                sha256 = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=").hex()
                digests[os.path.normpath(f"/{folder}/{path}")] = [sha256]
    return digests


def _pattern(pattern: str) -> str:
    """Return the regular expression of a declared path: `*` stays within a folder, `**` does
    not."""
    stars = {"**": ".*", "*": "[^/]*"}
    return "".join(stars.get(part) or re.escape(part) for part in re.split(r"(\*+)", pattern))


def _scripts(tree: Path) -> frozenset[str]:
    """Return the paths that packages' own scripts name."""
    paths = set[str]()
    for suffix in ("postinst", "preinst", "config"):
        for path in (tree / "var/lib/dpkg/info").glob(f"*.{suffix}"):
            paths.update(_PATHS.findall(path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(paths)


def _homes(tree: Path) -> list[str]:
    """Return people's homes, the longest first: below /home, root's, and those of accounts from
    1000 on."""
    lines = (tree / "etc/passwd").read_text(encoding="utf-8").splitlines()
    fields = [line.split(":") for line in lines if line.count(":") == 6]
    # 65534 is nobody.
    own = {row[5].rstrip("/") for row in fields if row[2].isdigit() and 1000 <= int(row[2]) < 65534}
    return sorted(own - {""} | set(declared_files.PRIVATE), key=len, reverse=True)


def _compiled(path: str, owner_of: Mapping[str, str]) -> bool:
    """Return whether `path` is the byte code of a source that a package has."""
    match = _PYC.match(path)
    return match is not None and f"{match[1]}/{match[2]}.py" in owner_of


def _secret(tree: Path, path: str, status: os.stat_result, digests: list[str]) -> str:
    """Return the kind of secret in a file, or ""."""
    if path == _INDEX:
        return ""
    with (tree / path[1:]).open("rb") as source:
        start = source.read(8192)
        if start.startswith(b"\x7fELF"):
            return "core dump" if len(start) > 17 and start[16] == _CORE else ""
        # Byte code and other binaries of a package hold what their source holds.
        is_text = b"\0" not in start or packed_text.is_packed(start)
        if status.st_size > READ_BYTES or (not is_text and (digests or _PYC.match(path))):
            return ""
        data = start + source.read()
    for digest in digests:
        algorithm = "sha256" if len(digest) == 64 else "md5"
        # The file is as its package has it.
        if hashlib.new(algorithm, data, usedforsecurity=False).hexdigest() == digest:
            return ""
    if path == _DEBCONF and re.search(rb"^Value: *\S", data, re.MULTILINE):
        return "a password of debconf"
    return secret_patterns.in_file(data)
