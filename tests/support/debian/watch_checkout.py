"""A checkout with a lock of the CPU image, its mirror, and `golden watch` on it, for the tests of
`watch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.model.locked import lockfile
from goldenami.watch.sources import driver_releases
from goldenami.watch.watch_records import ComponentRow, WatchRecord

from support.debian import debrepo
from support.debian.debrepo import Archive, Package

IMAGE = "debian-13-ml-cpu"
SECURE = {"Essential": "yes", "Priority": "required"}
SED = Package("sed", "12.4+deb13u6", depends="libc6", fields=SECURE)
LESS = Package("less", "1.0-1+deb13u1", depends="libc6")
KERNEL = [
    *debrepo.kernel_packages("6.1.0-51", "6.1.150-1"),
    Package(
        "linux-image-cloud-amd64",
        "6.1.150-1",
        depends="linux-image-6.1.0-51-cloud-amd64 (= 6.1.150-1)",
    ),
]


def environment(patch: pytest.MonkeyPatch, key: debrepo.Key, cache: Path, uri: str) -> None:
    """The archives of the synthetic Debian 13 and a cache, as `golden` finds them."""
    patch.setenv("GOLDEN_CACHE", str(cache))
    patch.setenv("GOLDEN_MIRROR_DEBIAN", f"{uri}/debian")
    patch.setenv(driver_releases.VARIABLE, f"{uri}/releases.json")
    patch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", f"{uri}/security")
    patch.setenv("GOLDEN_KEYRING_DEBIAN_ARCHIVE_KEYRING", str(key.keyring))


@dataclass
class WatchCheckout:
    """A checkout with a lock, its mirror, and `golden watch` on it."""

    root: Path
    mirror: debrepo.Mirror
    key: debrepo.Key
    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    folder: Path
    image: str = IMAGE

    def watch(self, *args: str, name: str | None = None) -> tuple[int, str]:
        """Its exit code, and what it printed; "" is the name of all images."""
        named = self.image if name is None else name
        code = cli.main(["watch", *([named] if named else []), *args])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    @property
    def record(self) -> WatchRecord:
        return WatchRecord.model_validate_json(
            (self.root / "build/watch/watch.json").read_text(encoding="utf-8")
        )

    @property
    def summary(self) -> str:
        return (self.root / "build/watch/summary.md").read_text(encoding="utf-8")

    def row(self, component: str) -> ComponentRow:
        return next(row for row in self.record.rows if row.component == component)

    def verdicts(self) -> dict[str, str]:
        return {row.component: row.verdict.value for row in self.record.rows}

    def lock(self) -> lockfile.Lock:
        return lockfile.read(lockfile.path_of(self.root, self.image))[0]

    def define(self, section: str, old: str = "", new: str = "") -> None:
        path = self.root / f"packer/images/{self.image}.yml"
        text = path.read_text(encoding="utf-8").replace(old, new)
        path.write_text(f"{text}{section}\n", encoding="utf-8")

    def archive(self, name: str, packages: list[Package]) -> Archive:
        label, suites = (
            ("Debian", ("trixie", "trixie-updates"))
            if name == "debian"
            else ("Debian-Security", ("trixie-security",))
        )
        made = Archive(self.folder / f"new-{name}", self.key, label=label, suites=suites).add(
            packages
        )
        (self.mirror.folder / name).unlink()
        (self.mirror.folder / name).symlink_to(made.folder)
        return made
