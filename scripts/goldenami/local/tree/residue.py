"""What a bake left in a sealed tree, by three rules: whoever looks for names alone misses what
nobody thought of.

1. Homes hold what skel has, and nothing else.
2. Every other file is a package's or a wheel's, is named by a package's own scripts, is brought by
   a role, or declared.
3. No text that was written here holds a key, token or password. What is as its package had it, by
   the package's digests, is not read; all of /etc is.
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

from goldenami.local.tree import declared_files, owners, secret_patterns

READ_BYTES = 1 << 20
"""Text up to this size is read: a secret in a larger file would be a database or an archive, which
rule 2 names."""
_PYC = re.compile(r"^(.*)/__pycache__/([^/]+?)\.[a-z]+-\d+(?:\.opt-\d)?\.pyc$")
_PATHS = re.compile(r"/(?:etc|var|usr)/[\w./+@-]*\w")
ACCESS, KEYS = "authorized key", "/etc/ssh/keys.d/"
"""What secret_patterns calls a line of authorized_keys, and where the role customize has them."""
_CORE = 4
"""e_type of a core dump (elf(5))."""


def find(root: Path, brought: Collection[str] = ()) -> list[str]:
    """One line for each file that should not be in the tree `root`: its path, and what is wrong.
    `brought` are patterns of the files that the image's roles bring."""
    owned = owners.packages(root) | _diverted(root)
    packed, named = _digests(root), _scripts(root)
    declared = [*brought, *itertools.chain(*declared_files.DECLARED.values())]
    is_declared = re.compile("|".join(map(_pattern, declared))).fullmatch
    private, lines = _homes(root), list[str]()
    for path, status in _files(root):
        home = next((home for home in private if path.startswith(f"{home}/")), None)
        known = path in owned
        if home is not None and not known:
            if path.removeprefix(f"{home}/") not in declared_files.HOME_FILES:
                lines.append(f"home: {path}")
                continue
        elif (
            not known and not is_declared(path) and path not in named and not _compiled(path, owned)
        ):
            lines.append(f"nobody's file: {path}")
            continue
        digests = [] if path.startswith("/etc/") else packed.get(path, [])
        kind = _secret(root, path, status, digests)
        # Who may log in is no secret where a definition names the users.
        if kind and not (kind == ACCESS and path in brought and path.startswith(KEYS)):
            lines.append(f"{kind}: {path}")
    return sorted(lines)


def _files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files of the tree; a link has no content of its own."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{root}{folder}/") as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders += [path] if path not in declared_files.UNREAD else []
                elif stat.S_ISREG((status := entry.stat(follow_symlinks=False)).st_mode):
                    yield path, status


def _diverted(root: Path) -> dict[str, str]:
    """Files of packages by the names that dpkg-divert gave them, with their own (lines: own, given,
    by whom)."""
    path = root / "var/lib/dpkg/diversions"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return dict(zip(lines[1::3], lines[::3], strict=False))


def _digests(root: Path) -> dict[str, list[str]]:
    """The MD5 (dpkg) or SHA-256 (wheels) in hex of each path as its package has it."""
    found = dict[str, list[str]]()
    for listing in (root / "var/lib/dpkg/info").glob("*.md5sums"):
        for line in listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            digest, _, path = line.partition("  ")
            found.setdefault(owners.real(f"/{path}"), []).append(digest)
    for diverted, original in _diverted(root).items():
        found.setdefault(diverted, []).extend(found.get(original, []))
    for record in owners.wheel_lists(root):
        folder = record.parents[1].relative_to(root)
        with record.open(encoding="utf-8", newline="") as rows:
            for path, digest, _ in csv.reader(rows):
                text = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=").hex()
                found[os.path.normpath(f"/{folder}/{path}")] = [text]
    return found


def _pattern(pattern: str) -> str:
    """The regular expression of a declared path: `*` stays within a folder, `**` does not."""
    stars = {"**": ".*", "*": "[^/]*"}
    return "".join(stars.get(part) or re.escape(part) for part in re.split(r"(\*+)", pattern))


def _scripts(root: Path) -> frozenset[str]:
    found = set[str]()
    for suffix in ("postinst", "preinst", "config"):
        for path in (root / "var/lib/dpkg/info").glob(f"*.{suffix}"):
            found.update(_PATHS.findall(path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(found)


def _homes(root: Path) -> list[str]:
    """Homes of people, the longest first: below /home, root's, those of accounts from 1000 on."""
    lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    fields = [line.split(":") for line in lines if line.count(":") == 6]
    own = {row[5].rstrip("/") for row in fields if row[2].isdigit() and 1000 <= int(row[2]) < 65534}
    return sorted(own - {""} | set(declared_files.PRIVATE), key=len, reverse=True)


def _compiled(path: str, owned: Mapping[str, str]) -> bool:
    match = _PYC.match(path)
    return match is not None and f"{match[1]}/{match[2]}.py" in owned


def _secret(root: Path, path: str, status: os.stat_result, digests: list[str]) -> str:
    """What is secret in a file; byte code and other binaries hold what their source says."""
    with (root / path[1:]).open("rb") as source:
        start = source.read(8192)
        if start.startswith(b"\x7fELF"):
            return "core dump" if len(start) > 17 and start[16] == _CORE else ""
        if b"\0" in start or status.st_size > READ_BYTES:
            return ""
        text = start + source.read()
    for digest in digests:
        algorithm = "sha256" if len(digest) == 64 else "md5"
        if hashlib.new(algorithm, text, usedforsecurity=False).hexdigest() == digest:
            return ""
    return secret_patterns.found(text)
