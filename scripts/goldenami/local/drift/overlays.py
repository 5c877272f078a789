"""The root as an instance of an immutable image sees it: what it has written, above what was baked.

The rules are the kernel's (Documentation/filesystems/overlayfs.rst); `local/disk/immutable`
describes the layout of `persist`.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping

from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.path_state import PathState

_OPAQUE, _REDIRECT, _OWN = "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay."
_UPPER, _PLAIN, _WORK = "/upper", "/plain", "/work"
_SCAFFOLD = re.compile(r"/|/lost\+found|/upper|/plain|/work(/[^/]+(/(work|index)(/#[0-9a-f]+)?)?)?")
"""Paths of `persist` itself: what the bake made, and what the kernel keeps in an overlay's own
folders."""


def upper(path: str) -> str:
    """Return the place on `persist` of a path of the root that was written."""
    return _UPPER + path


def plain(path: str) -> str:
    """Return the place on `persist` of a path whose folder has no overlay."""
    return _PLAIN + path


def merged(root: Mapping[str, PathState], persist: Iterable[PathState]) -> dict[str, PathState]:
    """Return every path that the instance sees, in the order of paths. Raises Unreadable for a
    folder that was moved to nowhere."""
    seen, removals = dict(root), set[str]()
    for state in persist:
        # The kernel links one removal to many places, also in the overlay's own folder.
        if (state.kind, state.device) == ("character", (0, 0)) or (
            state.kind == "hardlink" and state.target in removals
        ):
            removals.add(state.path)
        if state.path in removals and state.path.startswith((f"{_UPPER}/", f"{_WORK}/")):
            _remove(seen, state.path.removeprefix(_UPPER))
        elif state.path.startswith(f"{_UPPER}/"):
            _write(seen, root, state)
        elif state.path.startswith(f"{_PLAIN}/"):
            _put(seen, state, _PLAIN, keep=True)
        elif not _SCAFFOLD.fullmatch(state.path) or state.kind not in ("directory", "file"):
            _put(seen, dataclasses.replace(state, path=f"/persist{state.path}"), "", keep=False)
    return {path: seen[path] for path in sorted(seen, key=lambda path: path.split("/"))}


def _write(seen: dict[str, PathState], root: Mapping[str, PathState], state: PathState) -> None:
    """Add one path of an upper folder, which may hide or move what is below it."""
    path = state.path.removeprefix(_UPPER)
    below = seen.get(path)
    redirect = state.attributes.get(_REDIRECT)
    if _OPAQUE in state.attributes or redirect is not None or (below and below.kind != state.kind):
        _remove(seen, path)
    if redirect is not None:
        source = _source(path, bytes.fromhex(redirect).decode("utf-8", "surrogateescape"))
        if source not in root:
            raise Unreadable(f"{path} is said to have been {source}, which was not baked")
        for old, baked in root.items():
            if old.startswith(f"{source}/"):
                new = path + old.removeprefix(source)
                seen[new] = dataclasses.replace(baked, path=new)
    _put(seen, state, _UPPER, keep=False)


def _source(path: str, redirect: str) -> str:
    """Return where a moved folder was baked: at a name beside it, or at a path from its overlay's
    own top."""
    if redirect.startswith("/"):
        return "/" + path.split("/")[1] + redirect
    return posixpath.join(posixpath.dirname(path), redirect)


def _remove(seen: dict[str, PathState], path: str) -> None:
    """Remove a path and all below it."""
    for other in list(seen):
        if other == path or other.startswith(f"{path}/"):
            del seen[other]


def _put(seen: dict[str, PathState], state: PathState, top: str, *, keep: bool) -> None:
    """Add a path without what only overlays know of it; with `keep` one that is there stays."""
    path = state.path.removeprefix(top)
    if keep and path in seen:
        return
    target = state.target
    if state.kind == "hardlink":
        target = target.removeprefix(top)
    attributes = {
        name: value for name, value in state.attributes.items() if not name.startswith(_OWN)
    }
    seen[path] = dataclasses.replace(state, path=path, target=target, attributes=attributes)
