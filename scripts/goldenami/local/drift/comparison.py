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
    """Return how a path differs from its bake, each line with both values."""
    if found is baked:
        return []
    if found is None:
        return ["removed"]
    if baked is None:
        return [f"added: {_shown(found)}", *dangers(found)]
    if baked.kind != found.kind:
        return [f"type: {baked.kind}, now {_shown(found)}", *dangers(found)]
    lines = list(_metadata(baked, found))
    if baked.target != found.target:
        lines.append(f"target: {baked.target}, now {found.target}")
    if baked.device != found.device:
        lines.append(f"device: {baked.device}, now {found.device}")
    if baked.size != found.size:
        lines.append(f"content: {baked.size} bytes, now {found.size}")
    elif baked.sha256 != found.sha256:
        lines.append(
            f"content: same size, SHA-256 {(baked.sha256 or '')[:12]}, now "
            f"{(found.sha256 or '')[:12]}"
        )
    return lines


def _metadata(baked: PathState, found: PathState) -> Iterator[str]:
    if baked.mode != found.mode:
        yield f"mode: {baked.mode:04o}, now {found.mode:04o}"
    if (baked.uid, baked.gid) != (found.uid, found.gid):
        yield f"owner: {baked.uid}:{baked.gid}, now {found.uid}:{found.gid}"
    for name in sorted(baked.attributes.keys() | found.attributes.keys()):
        before, now = baked.attributes.get(name), found.attributes.get(name)
        if before != now:
            kind = {CAPABILITY: "capability"} | dict.fromkeys(ACLS, "ACL")
            yield f"{kind.get(name, f'attribute {name}')}: {before or 'none'}, now {now or 'none'}"
    if baked.flags != found.flags:
        yield f"inode flags: {_named(baked.flags)}, now {_named(found.flags)}"


def _named(flags: int) -> str:
    names = [name for bit, name in _FLAGS.items() if flags & bit]
    rest = flags & ~sum(_FLAGS)
    return ", ".join(names + ([f"{rest:#x}"] if rest else [])) or "none"


def _shown(found: PathState) -> str:
    size = f", {found.size} bytes" if found.kind == "file" else ""
    target = f" to {found.target}" if found.target else ""
    return f"{found.kind}{target} {found.mode:04o} {found.uid}:{found.gid}{size}"


def dangers(found: PathState) -> list[str]:
    """Return what makes a path more than somebody's own file: it gives rights that its folder does
    not."""
    lines = []
    if found.kind in ("file", "hardlink") and found.mode & 0o6000:
        lines.append(f"set-id file: mode {found.mode:04o}, owner {found.uid}:{found.gid}")
    if found.kind in _SPECIAL:
        lines.append(f"device {found.device[0]}:{found.device[1]}")
    if CAPABILITY in found.attributes:
        lines.append(f"capability: {found.attributes[CAPABILITY]}")
    return lines


def of_folder(baked: PathState, found: PathState) -> list[str]:
    """Return how a baked folder of data differs from its bake."""
    # systemd sets the ACLs of the logs' folders at boot.
    return [line for line in _metadata(baked, found) if not line.startswith("ACL: ")]


def of_made(found: PathState, made: Made, launch: LaunchedWith) -> list[str]:
    """Return how a path differs from what a launch makes."""
    kind = "directory" if made.folder else "file"
    if found.kind != kind or found.attributes or found.flags:
        return [f"not a plain {kind}: {_shown(found)}", *dangers(found)]
    lines = []
    if f"{found.mode:04o}" not in made.modes:
        lines.append(f"mode: {found.mode:04o}, may be {' or '.join(made.modes)}")
    if not made.owner.has(found.uid, found.gid):
        lines.append(f"owner: {found.uid}:{found.gid}, may be {made.owner.value}")
    if kind == "file" and found.text is None:
        lines.append(f"content: {found.size} bytes, more than a launch writes")
    elif made.launch and not is_of_launch(found, made.launch, launch):
        lines.append(f"content: not the {made.launch.value} of the launch")
    return lines


def is_of_launch(found: PathState, source: Source, launch: LaunchedWith) -> bool:
    """Return whether a file has only words of the launch or of its user data; True if the launch is
    unknown."""
    words = (found.text or "").split()
    if source is Source.KEY:
        # Every SSH key begins so, with the length of its type's name.
        words = [word for word in words if word.startswith("AAAA")]
        launch_words = None if launch.key is None else launch.key.split()
    else:
        # cloud-init takes either name, depending on its version and configuration.
        name = launch.hostname
        launch_words = None if name is None else [name, name.partition(".")[0]]
    return launch_words is None or all(
        word in launch_words or launch.has_in_user_data(word) for word in words
    )
