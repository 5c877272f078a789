"""How a path differs from its bake, and whether a rule lets it. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator

from goldenami.drift.policy import USER, Freedom, Policy, Rule
from goldenami.local.reader.attributes import ACLS
from goldenami.local.reader.path_state import CAPABILITY, PathState

_FLAGS = {0x1: "secure deletion", 0x2: "undelete", 0x4: "compressed", 0x8: "synchronous", 0x10: "immutable",
          0x20: "append only", 0x40: "no dump", 0x80: "no atime", 0x800: "encrypted", 0x4000: "journalled data",
          0x8000: "no tail", 0x10000: "synchronous folder", 0x20000: "top folder", 0x100000: "verity",
          0x20000000: "inherits its project", 0x40000000: "case folding"}
"""Inode flags by what they do (chattr(1))."""
_SPECIAL = ("character", "block")


def differences(baked: PathState | None, found: PathState | None) -> list[str]:
    """What is not as it was baked, each with both values."""
    if found is baked:
        return []
    if found is None:
        return ["removed"]
    if baked is None:
        return [f"added: {_shown(found)}", *_dangers(found)]
    if baked.kind != found.kind:
        return [f"type: {baked.kind}, now {_shown(found)}", *_dangers(found)]
    said = list(_metadata(baked, found))
    if baked.target != found.target:
        said.append(f"target: {baked.target}, now {found.target}")
    if baked.device != found.device:
        said.append(f"device: {baked.device}, now {found.device}")
    if baked.size != found.size:
        said.append(f"content: {baked.size} bytes, now {found.size}")
    elif baked.sha256 != found.sha256:
        said.append(f"content: same size, SHA-256 {(baked.sha256 or '')[:12]}, now {(found.sha256 or '')[:12]}")
    return said


def _metadata(baked: PathState, found: PathState) -> Iterator[str]:
    if baked.mode != found.mode:
        yield f"mode: {baked.mode:04o}, now {found.mode:04o}"
    if (baked.uid, baked.gid) != (found.uid, found.gid):
        yield f"owner: {baked.uid}:{baked.gid}, now {found.uid}:{found.gid}"
    for name in sorted(baked.attributes.keys() | found.attributes.keys()):
        mine, its = baked.attributes.get(name), found.attributes.get(name)
        if mine != its:
            kind = "capability" if name == CAPABILITY else "ACL" if name in ACLS else f"attribute {name}"
            yield f"{kind}: {mine or 'none'}, now {its or 'none'}"
    if baked.flags != found.flags:
        yield f"inode flags: {_named(baked.flags)}, now {_named(found.flags)}"


def _named(flags: int) -> str:
    known = [name for bit, name in _FLAGS.items() if flags & bit]
    rest = flags & ~sum(_FLAGS)
    return ", ".join(known + ([f"{rest:#x}"] if rest else [])) or "none"


def _shown(found: PathState) -> str:
    size = f", {found.size} bytes" if found.kind == "file" else ""
    target = f" to {found.target}" if found.target else ""
    return f"{found.kind}{target} {found.mode:04o} {found.uid}:{found.gid}{size}"


def _dangers(found: PathState) -> list[str]:
    """What is never somebody's own file: it gives rights that its folder does not."""
    said = []
    if found.kind in ("file", "hardlink") and found.mode & 0o6000:
        said.append(f"set-id file: mode {found.mode:04o}, owner {found.uid}:{found.gid}")
    if found.kind in _SPECIAL:
        said.append(f"device {found.device[0]}:{found.device[1]}")
    if CAPABILITY in found.attributes:
        said.append(f"capability: {found.attributes[CAPABILITY]}")
    return said


def broken(baked: PathState | None, found: PathState | None, rule: Rule | None, policy: Policy) -> list[str]:
    """What of the differences no rule lets pass; nothing where the path is as baked, or as its rule has it."""
    said = differences(baked, found)
    if not said or rule is None or rule.may is Freedom.NOTHING:
        return said
    match rule.may:
        case Freedom.ANYTHING | Freedom.EVERYTHING:
            return _dangers(found) if found and rule.may is Freedom.ANYTHING else []
        case Freedom.FOLDERS:
            return [] if found is None or found.kind == "directory" else said
        case Freedom.MODES:
            return said if found is None or f"{found.mode:04o}" not in rule.modes else [
                line for line in said if not line.startswith("mode: ")]
        case Freedom.CONTENT:
            return _content(found, rule, policy.user) if found else ([] if baked is None else said)
        case _:
            return _accounts(baked, found, policy.user) if baked and found else said


def _content(found: PathState, rule: Rule, user: str) -> list[str]:
    if found.kind != "file" or found.attributes or found.flags:
        return [f"not a plain file: {_shown(found)}"]
    said = []
    if f"{found.mode:04o}" not in rule.modes:
        said.append(f"mode: {found.mode:04o}, may be {' or '.join(rule.modes)}")
    if (found.uid == 0) is (rule.owner == USER) or (rule.owner != USER and found.gid != 0):
        said.append(f"owner: {found.uid}:{found.gid}, may be {user if rule.owner == USER else 'root'}")
    if found.text is None or not re.fullmatch(rule.text.replace(USER, re.escape(user)), found.text):
        said.append(f"content: {found.size} bytes, not what the rule has")
    return said


def _accounts(baked: PathState, found: PathState, user: str) -> list[str]:
    """The baked lines in their order, USER's own, and USER as a member of groups; passwords are locked."""
    said = [line for line in differences(baked, found) if not line.startswith("content: ")]
    if baked.text is None or found.text is None:
        return [*said, "content: not stated in the manifest, so that its lines cannot be compared"]
    own = [line for line in found.text.splitlines() if line.split(":")[0] == user]
    others = [_without(line, user) for line in found.text.splitlines() if line.split(":")[0] != user]
    known = baked.text.splitlines()
    said += [f"line added: {line.split(':')[0]}" for line in others if line not in known]
    said += [f"line removed or changed: {line.split(':')[0]}" for line in known if line not in others]
    if not said and others != known:
        said.append("lines in another order, or twice")
    if len(own) > 1 or any(not _is_users(baked.path, line) for line in own):
        said.append(f"line of {user} that cloud-init does not write")
    return said


def _without(line: str, user: str) -> str:
    """A line of a group without that member."""
    head, separator, members = line.rpartition(":")
    left = [member for member in members.split(",") if member != user]
    return f"{head}{separator}{','.join(left)}"


_OWN = {
    "/etc/passwd": r"[^:]+:x:[1-9]\d{3}:[1-9]\d{3}:[^:]*:/home/[^:/]+:/bin/(ba)?sh",
    "/etc/shadow": r"[^:]+:[!*][^:]*:\d*:\d*:\d*:\d*:\d*:\d*:\d*",
    "/etc/group": r"[^:]+:x:[1-9]\d{3}:[^:]*", "/etc/gshadow": r"[^:]+:[!*]?:[^:]*:[^:]*",
    "/etc/subuid": r"[^:]+:\d{6,}:65536", "/etc/subgid": r"[^:]+:\d{6,}:65536",
}
"""The default user's lines as useradd writes them: no root, no password, a home and a shell of its own."""


def _is_users(path: str, line: str) -> bool:
    return re.fullmatch(_OWN[path], line) is not None
