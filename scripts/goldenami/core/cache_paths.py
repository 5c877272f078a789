"""Folders of this machine's cache, shared by all images. All of it can be fetched or made again."""

from __future__ import annotations

import os
import re
from pathlib import Path

from goldenami.core.errors import BadInput

_SPECIAL = re.compile(r"""[\s"',:\\]""")
"""Characters that apt's configuration or the mount options of an overlay would not take as part of
a path."""


class CachePaths:
    """The folders of the cache in `folder`. None of them has to exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"  # files that locks name, by SHA-256
        self.control = folder / "control"  # control data of the store's packages, by SHA-256
        self.apt = folder / "apt"  # private roots of apt for the archives of a definition
        self.watch = folder / "watch"  # the same for `watch`, which reads archives of all images
        self.repositories = folder / "repos"  # local apt repositories, hard-linked from the store
        self.layers = folder / "layers"  # trees of the steps of a bake, by the key of their inputs
        self.containers = folder / "boxes"  # containers of Molecule, by name
        self.work = folder / "work"  # work folders of compilations
        self.modules = folder / "modules"  # compiled kernel modules, by key
        self.wheels = folder / "wheels"  # compiled wheels, by key
        self.ccache = folder / "ccache"  # objects of compilations of wheels
        self.code = folder / "code"  # the coverage check's findings in files, by their content
        self.timings = (
            folder / "timings"
        )  # seconds of the last run of each stage, by stage and image

    @classmethod
    def default(cls) -> CachePaths:
        """Return the cache in GOLDEN_CACHE (a relative path is below the working directory). If the
        variable is unset, it is in the user's cache folder (XDG base directory specification)."""
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        folder = Path(os.environ.get("GOLDEN_CACHE") or Path(base) / "goldenami").absolute()
        if special := _SPECIAL.search(str(folder)):
            raise BadInput(
                f"the cache's folder {folder} has `{special[0]}` in its name",
                hint="set GOLDEN_CACHE to a path without spaces, quotes, commas, "
                "colons and backslashes",
            )
        return cls(folder)
