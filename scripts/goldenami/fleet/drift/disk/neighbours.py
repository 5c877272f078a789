"""What a rule looks at beside a path's own state: the disk's other paths, and what its launch is
known to have said."""

from __future__ import annotations

import posixpath
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from goldenami.local.reader.path_state import PathState


@dataclass(frozen=True)
class LaunchedWith:
    """As EC2 has it: `user_data` is empty without, `key` the public key; None: unknown."""

    user_data: bytes | None = None
    key: str | None = None


UNKNOWN = LaunchedWith()

@dataclass(frozen=True)
class Neighbours:
    """A disk's paths for one default user: `found` are those that were looked at, `as_baked` are as
    `baked`."""

    user: str
    launch: LaunchedWith
    baked: Mapping[str, PathState]
    found: Mapping[str, PathState]
    as_baked: Container[str]

    def state(self, path: str) -> PathState | None:
        return self.baked[path] if path in self.as_baked else self.found.get(path)

    def text(self, path: str) -> str:
        state = self.state(path)
        return (state.text or "") if state else ""

    def has_link(self, path: str) -> bool:
        states = (self.state(each) for each in (path, *map(str, PurePosixPath(path).parents)))
        return any(state.kind == "symlink" for state in states if state)

    def is_closed(self, path: str) -> bool:
        """Whether a folder above lets in root alone, so that nobody else reaches what is set-id
        there."""
        while path != "/":
            path = posixpath.dirname(path)
            above = self.state(path)
            group = 0o70 if above and above.gid else 0
            if above and not above.uid and not above.mode & (0o7 | group) and not above.attributes:
                return True
        return False
