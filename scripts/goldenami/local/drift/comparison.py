"""How a path differs from its bake, and from what a launch makes of it. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.local.drift.launched_with import LaunchedWith
from goldenami.local.drift.may_differ import Made, Source
from goldenami.local.reader.attributes import ACLS
from goldenami.local.reader.path_state import CAPABILITY, PathState

_FLAGS = {
    0x10: "immutable",
    0x20: "append only",
    0x80: "no atime",
    0x800: "encrypted",
    0x100000: "verity",
    0x40000000: "case folding",
}
"""Inode flags by what they do (chattr(1)); others are shown as numbers."""
_SPECIAL = ("character", "block")


def differences(baked: PathState | None, found: PathState | None) -> list[str]:
    """What is not as it was baked, each with both values."""
    if found is baked:
        return []
    if found is None:
        return ["removed"]
    if baked is None:
        return [f"added: {_shown(found)}", *dangers(found)]
    if baked.kind != found.kind:
        return [f"type: {baked.kind}, now {_shown(found)}", *dangers(found)]
    said = list(_metadata(baked, found))
    if baked.target != found.target:
        said.append(f"target: {baked.target}, now {found.target}")
    if baked.device != found.device:
        said.append(f"device: {baked.device}, now {found.device}")
    if baked.size != found.size:
        said.append(f"content: {baked.size} bytes, now {found.size}")
    elif baked.sha256 != found.sha256:
        said.append(
            f"content: same size, SHA-256 {(baked.sha256 or '')[:12]}, now "
            f"{(found.sha256 or '')[:12]}"
        )
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


def dangers(found: PathState) -> list[str]:
    """What is never somebody's own file: it gives rights that its folder does not."""
    said = []
    if found.kind in ("file", "hardlink") and found.mode & 0o6000:
        said.append(f"set-id file: mode {found.mode:04o}, owner {found.uid}:{found.gid}")
    if found.kind in _SPECIAL:
        said.append(f"device {found.device[0]}:{found.device[1]}")
    if CAPABILITY in found.attributes:
        said.append(f"capability: {found.attributes[CAPABILITY]}")
    return said


def of_folder(baked: PathState, found: PathState) -> list[str]:
    """What of a baked folder of data is not as baked. ACLs are left out: systemd sets those of
    logs at boot."""
    return [line for line in _metadata(baked, found) if not line.startswith("ACL: ")]


def of_made(found: PathState, made: Made, launch: LaunchedWith) -> list[str]:
    """What of a path is not as a launch makes it."""
    kind = "directory" if made.folder else "file"
    if found.kind != kind or found.attributes or found.flags:
        return [f"not a plain {kind}: {_shown(found)}", *dangers(found)]
    said = []
    if f"{found.mode:04o}" not in made.modes:
        said.append(f"mode: {found.mode:04o}, may be {' or '.join(made.modes)}")
    if not made.owner.has(found.uid, found.gid):
        said.append(f"owner: {found.uid}:{found.gid}, may be {made.owner.value}")
    if kind == "file" and found.text is None:
        said.append(f"content: {found.size} bytes, more than a launch writes")
    elif made.launch and not is_of_launch(found, made.launch, launch):
        said.append(f"content: not the {made.launch.value} of the launch")
    return said


def is_of_launch(found: PathState, source: Source, launch: LaunchedWith) -> bool:
    """Whether a file says what the launch said, or what its user data says; where the launch is
    unknown, too."""
    words = (found.text or "").split()
    if source is Source.KEY:
        # Every key of SSH begins so: the length of its type's name.
        words = [word for word in words if word.startswith("AAAA")]
        known = None if launch.key is None else launch.key.split()
    else:
        # cloud-init takes either, by its version and configuration.
        name = launch.hostname
        known = None if name is None else [name, name.partition(".")[0]]
    return known is None or all(word in known or launch.has_in_user_data(word) for word in words)
