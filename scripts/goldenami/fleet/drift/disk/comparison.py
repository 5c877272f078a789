"""How a path differs from its bake, and whether a rule lets it. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator

from goldenami.fleet.drift.disk import forms
from goldenami.fleet.drift.disk.neighbours import Neighbours
from goldenami.fleet.drift.disk.policy import USER, Freedom, Rule
from goldenami.local.reader.attributes import ACLS
from goldenami.local.reader.path_state import CAPABILITY, PathState

_FLAGS = {0x10: "immutable", 0x20: "append only", 0x80: "no atime", 0x800: "encrypted",
          0x100000: "verity", 0x40000000: "case folding"}
"""Inode flags by what they do (chattr(1)); others are shown as numbers."""
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
        said.append(f"content: same size, SHA-256 {(baked.sha256 or '')[:12]}, now "
                    f"{(found.sha256 or '')[:12]}")
    return said


def _metadata(baked: PathState, found: PathState) -> Iterator[str]:
    if baked.mode != found.mode:
        yield f"mode: {baked.mode:04o}, now {found.mode:04o}"
    if (baked.uid, baked.gid) != (found.uid, found.gid):
        yield f"owner: {baked.uid}:{baked.gid}, now {found.uid}:{found.gid}"
    for name in sorted(baked.attributes.keys() | found.attributes.keys()):
        mine, its = baked.attributes.get(name), found.attributes.get(name)
        if mine != its:
            kind = {CAPABILITY: "capability"} | dict.fromkeys(ACLS, "ACL")
            yield f"{kind.get(name, f'attribute {name}')}: {mine or 'none'}, now {its or 'none'}"
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


def broken(
    baked: PathState | None, found: PathState | None, rule: Rule | None, near: Neighbours
) -> list[str]:
    """What of the differences no rule lets pass."""
    said = differences(baked, found)
    if not said or rule is None:
        return said
    if rule.may in _FREE:
        return _free(baked, found, rule, near) if found else []
    if found is None:
        return [] if rule.may is Freedom.FOLDERS else said
    match rule.may:
        case Freedom.CONTENT:
            said = _content(found, rule, near)
        case Freedom.ACCOUNTS if baked:
            said = _accounts(baked, found, near.user)
        case Freedom.FOLDERS if found.kind == "directory":
            said = _folder(baked, found, rule)
        case Freedom.LINK if found.kind == "symlink" and re.fullmatch(rule.text, found.target):
            said = []
        case Freedom.MODES if f"{found.mode:04o}" in rule.modes:
            said = [line for line in said if not line.startswith("mode: ")]
    return said


_FREE = (Freedom.ANYTHING, Freedom.DATA, Freedom.LAYERS)


def _free(baked: PathState | None, found: PathState, rule: Rule, near: Neighbours) -> list[str]:
    is_layer = rule.may is Freedom.LAYERS
    said = list[str]()
    if not (is_layer and near.is_closed(found.path)):
        said = _dangers(found)
        if is_layer and (found.uid or found.mode & 0o2) and found.kind != "symlink":
            said.append(f"others than root may write: {_shown(found)}")
    if rule.may is Freedom.DATA and found.kind not in ("file", "directory"):
        # A link has a service write or read somewhere else.
        return [*differences(baked, found), *said]
    return said + (_folder(baked, found, rule) if found.kind == "directory" else [])


def _folder(baked: PathState | None, found: PathState, rule: Rule) -> list[str]:
    """A folder that was baked keeps owner and mode, a new one is root's where its rule has modes.
    ACLs of logs are systemd's."""
    if rule.modes and (f"{found.mode:04o}" not in rule.modes or found.uid or found.gid
                       or found.attributes):
        return [f"folder: {_shown(found)}, may be {' or '.join(rule.modes)} 0:0"]
    if baked is None or baked.kind != "directory" or rule.modes:
        return []
    return [line for line in _metadata(baked, found) if not line.startswith("ACL: ")]


def _content(found: PathState, rule: Rule, near: Neighbours) -> list[str]:
    if found.kind != "file" or found.attributes or found.flags:
        return [f"not a plain file: {_shown(found)}", *_dangers(found)]
    said = []
    if f"{found.mode:04o}" not in rule.modes:
        said.append(f"mode: {found.mode:04o}, may be {' or '.join(rule.modes)}")
    if (found.uid == 0) is (rule.owner == USER) or (rule.owner != USER and found.gid != 0):
        said.append(f"owner: {found.uid}:{found.gid}, may be "
                    f"{near.user if rule.owner == USER else 'root'}")
    text = rule.text.replace(USER, re.escape(near.user))
    if found.text is None or not re.fullmatch(text or (".*" if rule.form else ""), found.text,
                                              re.DOTALL):
        said.append(f"content: {found.size} bytes, not what the rule has")
    elif rule.form and (problem := forms.FORMS[rule.form](found, near)):
        said.append(f"content: {problem}")
    return said


def _accounts(baked: PathState, found: PathState, user: str) -> list[str]:
    """The baked lines in their order, USER's own, and USER as a member of groups; passwords are
    locked."""
    said = [line for line in differences(baked, found) if not line.startswith("content: ")]
    if baked.text is None or found.text is None:
        return [*said, "content: not stated in the manifest, so that its lines cannot be compared"]
    own = [line for line in found.text.split("\n") if line.split(":")[0] == user]
    others = [_without(line, user) for line in found.text.split("\n") if line.split(":")[0] != user]
    known = baked.text.split("\n")
    said += [f"line added: {line.split(':')[0]}" for line in others if line not in known]
    said += [f"line removed or changed: {line.split(':')[0]}" for line in known
             if line not in others]
    if not said and others != known:
        said.append("lines in another order, or twice")
    if len(own) > 1 or any(not _is_users(baked.path, line, user, known) for line in own):
        said.append(f"line of {user} that cloud-init does not write")
    return said


_GROUPS = ("adm", "audio", "cdrom", "dialout", "dip", "floppy", "lxd", "netdev", "plugdev", "sudo",
           "video")
"""Of the default user in Debian's and Ubuntu's cloud.cfg."""


def _without(line: str, user: str) -> str:
    head, separator, members = line.rpartition(":")
    left = [member for member in members.split(",") if member != user
            or head.split(":")[0] not in _GROUPS]
    return f"{head}{separator}{','.join(left)}"


_OWN = {
    "/etc/passwd": r"USER:x:(1\d{3}):1\d{3}:[^:]*:/home/USER:/bin/(ba)?sh",
    "/etc/shadow": r"USER:()[!*][^:]*:\d*:\d*:\d*:\d*:\d*:\d*:\d*",
    "/etc/group": r"USER:x:(1\d{3}):(USER)?", "/etc/gshadow": r"USER:()[!*]?::(USER)?",
    "/etc/subuid": r"USER:(\d+):65536", "/etc/subgid": r"USER:(\d+):65536",
}
"""The default user's lines as useradd writes them: no root, no password, a home of its own."""
_FIRST_SUBORDINATE = 100_000
"""SUB_UID_MIN and SUB_GID_MIN in login.defs; a range begins behind those that are taken."""


def _is_users(path: str, line: str, user: str, known: list[str]) -> bool:
    match = re.fullmatch(_OWN[path].replace(USER, re.escape(user)), line)
    rows = [row.split(":") for row in known if row]
    if match and path.startswith("/etc/sub"):
        ends = [int(row[1]) + int(row[2]) for row in rows]
        return match[1] == str(max([_FIRST_SUBORDINATE, *ends]))
    return match is not None and all(len(row) < 3 or row[2] != match[1] or not match[1]
                                     for row in rows)
