"""Differences of a path from its bake, and from what a launch makes of it. Pure: no I/O."""

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


def differences(baked: PathState | None, current: PathState | None) -> list[str]:
    """Return how a path differs from its bake, each line with both values."""
    if current is baked:
        return []
    if current is None:
        return ["removed"]
    if baked is None:
        return [f"added: {_shown(current)}", *dangers(current)]
    if baked.kind != current.kind:
        return [f"type: {baked.kind}, now {_shown(current)}", *dangers(current)]
    lines = list(_metadata(baked, current))
    if baked.target != current.target:
        lines.append(f"target: {baked.target}, now {current.target}")
    if baked.device != current.device:
        lines.append(f"device: {baked.device}, now {current.device}")
    if baked.size != current.size:
        lines.append(f"content: {baked.size} bytes, now {current.size}")
    elif baked.sha256 != current.sha256:
        lines.append(
            f"content: same size, SHA-256 {(baked.sha256 or '')[:12]}, now "
            f"{(current.sha256 or '')[:12]}"
        )
    return lines


def _metadata(baked: PathState, current: PathState) -> Iterator[str]:
    if baked.mode != current.mode:
        yield f"mode: {baked.mode:04o}, now {current.mode:04o}"
    if (baked.uid, baked.gid) != (current.uid, current.gid):
        yield f"owner: {baked.uid}:{baked.gid}, now {current.uid}:{current.gid}"
    for name in sorted(baked.attributes.keys() | current.attributes.keys()):
        before, now = baked.attributes.get(name), current.attributes.get(name)
        if before != now:
            kind = {CAPABILITY: "capability"} | dict.fromkeys(ACLS, "ACL")
            yield f"{kind.get(name, f'attribute {name}')}: {before or 'none'}, now {now or 'none'}"
    if baked.flags != current.flags:
        yield f"inode flags: {_named(baked.flags)}, now {_named(current.flags)}"


def _named(flags: int) -> str:
    names = [name for bit, name in _FLAGS.items() if flags & bit]
    if rest := flags & ~sum(_FLAGS):
        names.append(f"{rest:#x}")
    return ", ".join(names) or "none"


def _shown(current: PathState) -> str:
    size = f", {current.size} bytes" if current.kind == "file" else ""
    target = f" to {current.target}" if current.target else ""
    return f"{current.kind}{target} {current.mode:04o} {current.uid}:{current.gid}{size}"


def dangers(current: PathState) -> list[str]:
    """Return a line for each right that a path gives and its folder does not: set-id bits, a
    device, capabilities."""
    lines = []
    if current.kind in ("file", "hardlink") and current.mode & 0o6000:
        lines.append(f"set-id file: mode {current.mode:04o}, owner {current.uid}:{current.gid}")
    if current.kind in _SPECIAL:
        lines.append(f"device {current.device[0]}:{current.device[1]}")
    if CAPABILITY in current.attributes:
        lines.append(f"capability: {current.attributes[CAPABILITY]}")
    return lines


def of_folder(baked: PathState, current: PathState) -> list[str]:
    """Return how a baked folder of data differs from its bake."""
    # systemd sets the ACLs of the logs' folders at boot.
    return [line for line in _metadata(baked, current) if not line.startswith("ACL: ")]


def of_made(current: PathState, made: Made, launch: LaunchedWith) -> list[str]:
    """Return how a path differs from what a launch makes."""
    kind = "directory" if made.folder else "file"
    if current.kind != kind or current.attributes or current.flags:
        return [f"not a plain {kind}: {_shown(current)}", *dangers(current)]
    lines = []
    if f"{current.mode:04o}" not in made.modes:
        lines.append(f"mode: {current.mode:04o}, may be {' or '.join(made.modes)}")
    if not made.owner.has(current.uid, current.gid):
        lines.append(f"owner: {current.uid}:{current.gid}, may be {made.owner.value}")
    if kind == "file" and current.text is None:
        lines.append(f"content: {current.size} bytes, more than a launch writes")
    elif made.launch and not is_of_launch(current, made.launch, launch):
        lines.append(f"content: not the {made.launch.value} of the launch")
    return lines


def is_of_launch(current: PathState, source: Source, launch: LaunchedWith) -> bool:
    """Return whether a file has only words of the launch or of its user data; True if the launch is
    unknown."""
    value = launch.key if source is Source.KEY else launch.hostname
    if value is None:
        return True
    words = (current.text or "").split()
    if source is Source.KEY:
        # Every SSH key begins so, with the length of its type's name.
        words = [word for word in words if word.startswith("AAAA")]
        launch_words = value.split()
    else:
        # cloud-init takes either name, depending on its version and configuration.
        launch_words = [value, value.partition(".")[0]]
    return all(word in launch_words or launch.has_in_user_data(word) for word in words)
