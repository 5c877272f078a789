"""Apt roots over archives of a test's own packages."""

from __future__ import annotations

from pathlib import Path

from goldenami.packages.apt import AptRoot
from goldenami.packages.mirrors import Source

from support.debian import debrepo


class Resolver:
    """Archives of one suite `stable` with a mirror each, and apt roots over them."""

    def __init__(self, key: debrepo.Key, folder: Path) -> None:
        self.key, self.folder = key, folder
        self.mirrors: list[debrepo.Mirror] = []

    def root(self, packages: list[debrepo.Package], *, update: bool = True) -> AptRoot:
        """A configured root over a new archive that holds `packages`."""
        place = self.folder / f"archive{len(self.mirrors)}"
        debrepo.Archive(place, self.key, label="Debian", suites=("stable",)).add(packages).publish()
        self.mirrors.append(debrepo.Mirror(place))
        source = Source("debian", ("stable",), debrepo.COMPONENTS, "test")
        made = AptRoot(
            folder=self.folder / f"apt{len(self.mirrors)}",
            sources=(source,),
            uris={"debian": self.mirrors[-1].uri},
        )
        made.configure()
        if update:
            made.update()
        return made
