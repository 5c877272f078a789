"""The lock of a driver release that no archive has yet: the driver's packages repacked, each file of another size.

A byte of every page but the first is another one, and some are appended: no block of a file stays as it was, as between
two releases, while what reads files at bake time (ldconfig, modinfo, depmod) still finds what it wants.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import tempfile
from pathlib import Path

from goldenami.model.builds.lockfile import Lock, Package
from goldenami.packages.store import Store

SUFFIX = "+next"
GROWTH = (0.005, 0.04)
"""By what share files grow: 535.261.03 against 535.309.01 on Debian 12 differ by -1 to +4 %."""
PAGE = 4096


def names(lock: Lock) -> list[str]:
    """The packages that a driver release replaces."""
    assert lock.driver is not None and lock.driver.modules is not None
    return sorted(name for name, package in lock.packages.items()
                  if package.source in ("nvidia-graphics-drivers", "nvidia-open-gpu-kernel-modules")
                  or name == lock.driver.modules.package)


def following(lock: Lock, store: Store) -> Lock:
    """`lock` with the next driver release, whose files are in `store`."""
    packages = {name: _repacked(store, name, lock.packages[name], names(lock)) for name in names(lock)}
    return lock.model_copy(update={"packages": lock.packages | packages})


def _repacked(store: Store, name: str, package: Package, together: list[str]) -> Package:
    with tempfile.TemporaryDirectory() as folder:
        tree, built = Path(folder) / "tree", Path(folder) / "built.deb"
        subprocess.run(["dpkg-deb", "--raw-extract", str(store.path(package.sha256)), str(tree)], check=True)
        for path in sorted(tree.rglob("*")):
            if path.is_file() and not path.is_symlink() and tree / "DEBIAN" not in path.parents:
                _change(path)
        _describe(tree, package, together)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(built)], check=True,
                       stdout=subprocess.DEVNULL, env={"SOURCE_DATE_EPOCH": "0", "PATH": "/usr/sbin:/usr/bin:/bin"})
        return package.model_copy(update={
            "version": package.version + SUFFIX, "sha256": store.add(built), "size": built.stat().st_size,
            "installed_size": sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()),
        })


def _change(path: Path) -> None:
    data, chance = bytearray(path.read_bytes()), random.Random(path.name)
    if len(data) < PAGE:
        return  # links, scripts, configuration
    for at in range(PAGE + PAGE // 2, len(data), PAGE):
        data[at] ^= 0xFF
    path.write_bytes(bytes(data) + chance.randbytes(int(len(data) * chance.uniform(*GROWTH))))


def _describe(tree: Path, package: Package, together: list[str]) -> None:
    """Another version in the control file, also where the driver's packages depend on each other's; true checksums."""
    control = tree / "DEBIAN/control"
    lines = []
    for line in control.read_text(encoding="utf-8").splitlines():
        line = line.replace(f"(= {package.version})", f"(= {package.version}{SUFFIX})")
        lines.append(line + SUFFIX if line.startswith("Version: ") else line)
    control.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sums = tree / "DEBIAN/md5sums"
    if sums.exists():
        listed = [line.split("  ", 1)[1] for line in sums.read_text(encoding="utf-8").splitlines()]
        sums.write_text("".join(f"{hashlib.md5((tree / name).read_bytes()).hexdigest()}  {name}\n" for name in listed),
                        encoding="utf-8")
