"""Dummy packages in place of a later step's, so that an earlier step's dependencies hold without
them.

Debian's CUDA depends on the driver's libraries. If they were in CUDA's layer, every driver release
would unpack CUDA again. So CUDA's step installs a dummy with the same name and a lower version, and
the driver's step upgrades it. No dummy remains in the image, and CUDA's layer depends on the
driver's branch only. Wheels are compiled with the same dummies: no library of the driver shapes
them, so a new driver release compiles none again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from goldenami.core import process, shell
from goldenami.core.errors import StageFailed
from goldenami.model.locked.lockfile import Package
from goldenami.packages.apt import Deb
from goldenami.packages.store import Store

EPOCH = 315532800
"""1980-01-01 in seconds since 1970: a dummy is the same whenever it is made."""


def version(branch: str) -> str:
    """A version below every release of the driver's `branch`, and not below what Debian's CUDA asks
    for (`libcuda1 (>= 550)`)."""
    return f"{branch}+golden"


def of_driver(
    store: Store, debs: Iterable[Deb], sources: Collection[str], driver: str
) -> dict[str, Deb]:
    """A dummy for each of `debs` that comes from the driver's own `sources`, by name. `driver` is
    its version."""
    branch = driver.partition(".")[0]
    dummies = dict[str, Deb]()
    for deb in debs:
        if deb.source in sources:
            dummies[deb.name] = make(store, deb.name, branch, deb.architecture)
    return dummies


def make(store: Store, name: str, branch: str, architecture: str) -> Deb:
    """Build the dummy of `name` into the store. Equal arguments give equal bytes."""
    with process.scratch() as folder:
        tree, deb = Path(folder) / "tree", Path(folder) / "built.deb"
        (tree / "DEBIAN").mkdir(parents=True, mode=0o755)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version(branch)}\nArchitecture: {architecture}\nSection: "
            "misc\n"
            f"Priority: optional\nMaintainer: goldenami <root@localhost>\n"
            f"Description: stands in for {name} until a later step of the bake installs it\n",
            encoding="utf-8",
        )
        shell.output(
            # Uncompressed, so the bytes depend on no compressor's release.
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(deb)],
            env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        )
        size = deb.stat().st_size
        return Deb(
            name=name,
            version=version(branch),
            architecture=architecture,
            sha256=store.add(deb),
            size=size,
            installed_size=0,
            archive="built",
            path=f"{name}.deb",
            source=name,
        )


def have(store: Store, name: str, package: Package) -> Deb:
    """The dummy that a lock names, built again if the store lacks it. Raises StageFailed if it
    comes out with other bytes."""
    if not store.has(package.sha256, package.size):
        dummy = make(store, name, package.version.partition("+")[0], package.architecture)
        if dummy.sha256 != package.sha256:
            raise StageFailed(
                f"the dummy package {name} came out as {dummy.sha256[:12]}, the "
                "lock names "
                f"{package.sha256[:12]}",
                hint="another dpkg-deb packs it otherwise: run `make lock`",
            )
    return package.deb(name)
