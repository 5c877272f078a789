"""Where this machine keeps what can be fetched or made again, for all images."""

from __future__ import annotations

import os
import re
from pathlib import Path

from goldenami.core.errors import BadInput

_SPECIAL = re.compile(r"""[\s"',:\\]""")
"""What apt's configuration or an overlay's options would take for something else than a part of a
path."""


class CachePaths:
    """The folders of the cache in `folder`; none of them has to exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"  # what locks name, by SHA-256
        self.control = folder / "control"  # control data of the store's packages, by SHA-256
        self.apt = folder / "apt"  # private roots of apt for the archives of a definition
        self.watch = folder / "watch"  # the same for `watch`, which looks at archives of all images
        self.repositories = folder / "repos"  # local apt repositories, hard-linked from the store
        self.layers = folder / "layers"  # trees of the steps of a bake, by the key of their inputs
        self.containers = folder / "boxes"  # containers of Molecule, by name
        self.work = folder / "work"  # work folders of compilations
        self.modules = folder / "modules"  # compiled kernel modules, by key
        self.wheels = folder / "wheels"  # compiled wheels, by key
        self.ccache = folder / "ccache"  # objects of compilations of wheels
        self.code = folder / "code"  # what the coverage check read of files, by their content
        self.timings = (
            folder / "timings"
        )  # seconds of the last run of each stage, by stage and image

    @classmethod
    def default(cls) -> CachePaths:
        """GOLDEN_CACHE, below the working directory if it is relative, else the user's cache folder
        (XDG base directory specification)."""
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        folder = Path(os.environ.get("GOLDEN_CACHE") or Path(base) / "goldenami").absolute()
        if found := _SPECIAL.search(str(folder)):
            raise BadInput(
                f"the cache's folder {folder} has `{found[0]}` in its name",
                hint="set GOLDEN_CACHE to a path without spaces, quotes, commas, "
                "colons and backslashes",
            )
        return cls(folder)
