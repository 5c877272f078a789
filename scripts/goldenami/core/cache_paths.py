"""Where this machine keeps what can be fetched or made again: one folder for all images, below it
one for each kind."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from goldenami.core.errors import BadInput

_SPECIAL = re.compile(r"""[\s"',:\\]""")
"""What apt's configuration or an overlay's options would take for something else than a part of a
path."""


@dataclass(frozen=True)
class CachePaths:
    """The folders of the cache in `root`; none of them has to exist."""

    root: Path

    @classmethod
    def default(cls) -> CachePaths:
        """GOLDEN_CACHE, below the working directory if it is relative, else the user's cache folder
        (XDG base directory specification)."""
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = Path(os.environ.get("GOLDEN_CACHE") or Path(base) / "goldenami").absolute()
        if found := _SPECIAL.search(str(root)):
            raise BadInput(f"the cache's folder {root} has `{found[0]}` in its name",
                           hint="set GOLDEN_CACHE to a path without spaces, quotes, commas, "
                                "colons and backslashes")
        return cls(root)

    @property
    def store(self) -> Path:
        """What locks name, by SHA-256."""
        return self.root / "store"

    @property
    def control(self) -> Path:
        """Control data of the store's packages, by SHA-256."""
        return self.root / "control"

    @property
    def apt(self) -> Path:
        """Private roots of apt for the archives of a definition, one a folder."""
        return self.root / "apt"

    @property
    def watch(self) -> Path:
        """The same for `watch`, which looks at archives of all images."""
        return self.root / "watch"

    @property
    def repositories(self) -> Path:
        """Local apt repositories, hard-linked from the store."""
        return self.root / "repos"

    @property
    def layers(self) -> Path:
        """Trees of the steps of a bake, by the key of their inputs."""
        return self.root / "layers"

    @property
    def containers(self) -> Path:
        """Containers of Molecule, by name."""
        return self.root / "boxes"

    @property
    def work(self) -> Path:
        """Work folders of compilations."""
        return self.root / "work"

    @property
    def modules(self) -> Path:
        """Outcomes of compilations of kernel modules, by key."""
        return self.root / "modules"

    @property
    def wheels(self) -> Path:
        """Outcomes of compilations of wheels, by key."""
        return self.root / "wheels"

    @property
    def ccache(self) -> Path:
        """Objects of compilations of wheels."""
        return self.root / "ccache"

    @property
    def code(self) -> Path:
        """What the coverage check read of files, by their content."""
        return self.root / "code"

    @property
    def timings(self) -> Path:
        """Seconds of the last run of each stage, by stage and image."""
        return self.root / "timings"
