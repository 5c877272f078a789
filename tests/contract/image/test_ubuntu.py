"""Ubuntu 24.04 walked from definition to booted disk, over an archive dressed as noble
(support/ubuntu/noble.py).

It proves our names, paths, the roles' tables and cloud-init's user `ubuntu`; the packages are
Debian's, so it proves nothing of Ubuntu's. Mirrors and keys are told as a user tells them:
GOLDEN_MIRROR_* and GOLDEN_KEYRING_*. CUDA is left out of the definition; the driver is in the walk
that is marked `long`, since its modules are compiled.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.model.builds.build_records import Outcome, Verdict, VerifyRecord
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.packages.store import Store
from support.builds import checkout
from support.builds.bakes import finish, settle
from support.builds.tools import need
from support.debian import debrepo
from support.debian.nvidia_archive import NvidiaArchive
from support.debian.nvidia_packages import DriverRelease
from support.debian.repack import Origins
from support.ubuntu import kernel
from support.ubuntu.noble import Noble

pytestmark = pytest.mark.slow
IMAGE = "ubuntu-24.04-ml-gpu"
DRIVER = DriverRelease("580.95.05")


@dataclass(frozen=True)
class Walk:
    """A copy of the checkout, what a user with mirrors of their own sets, and whether the image has
    the driver."""

    root: Path
    told: dict[str, str]
    driver: bool

    def golden(self, *args: str) -> tuple[int, str]:
        return finish(checkout.golden(self.root, *args, **self.told))


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.long)],
    ids=["plain", "driver"],
)
def walk(
    request: pytest.FixtureRequest,
    key: debrepo.Key,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Walk]:
    """The archives on loopback, and a cache whose layers are this test's own."""
    need("zstd", "dpkg-deb", "gpg")
    folder, driver = tmp_path_factory.mktemp("ubuntu"), bool(request.param)
    root = _without(checkout.copy(folder / "root"), "cuda" if driver else "cuda nvidia_driver")
    Noble(root, IMAGE, folder / "served/noble", Store(CachePaths.default().folder), key)
    mirror = debrepo.Mirror(folder / "served")
    told = {
        "GOLDEN_MIRROR_UBUNTU": f"{mirror.uri}/noble",
        "GOLDEN_CACHE": str(checkout.cache(folder / "cache")),
        "GOLDEN_KEYRING_UBUNTU_ARCHIVE_KEYRING": str(key.keyring),
    }
    if driver:
        origins = Origins(folder / "origins")
        nvidia = (
            NvidiaArchive(folder / "served", key, origins, "ubuntu2404").release(DRIVER).publish()
        )
        told |= {"GOLDEN_MIRROR_NVIDIA": f"{mirror.uri}/{nvidia.path}"}
        _edit(
            root,
            lambda data: data["roles"]["nvidia_driver"].update(
                nvidia_driver_repository_key_fingerprint=key.fingerprint
            ),
        )
    yield Walk(root, told, driver)
    mirror.close()
    assert settle(root) == []
    shutil.rmtree(folder, ignore_errors=True)


def _without(root: Path, roles: str) -> Path:
    def shrink(data: dict[str, Any]) -> None:
        data["disk_size_gib"] = 4
        data["roles"] = {
            role: given for role, given in data["roles"].items() if role not in roles.split()
        }

    _edit(root, shrink)
    return root


def _edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / f"packer/images/{IMAGE}.yml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def lock(walk: Walk) -> Lock:
    status, output = walk.golden("lock", IMAGE)
    assert status == 0, output
    return lockfile.read(lockfile.path_of(walk.root, IMAGE))[0]


def test_the_lock_has_ubuntu_s_names(walk: Walk, lock: Lock) -> None:
    assert (lock.base.distribution, lock.base.release, lock.base.major) == ("ubuntu", "noble", 24)
    named = [suite.suite for suite in lock.base.suites]
    assert named == [
        "noble",
        "noble-security",
        "noble-updates",
        *(["nvidia"] if walk.driver else []),
    ]
    assert (lock.kernel.package, lock.kernel.release) == (
        f"linux-image-{kernel.RELEASE}",
        kernel.RELEASE,
    )
    of_kernel = next(step for step in lock.steps if step.roles == ["kernel"]).packages
    assert of_kernel == [f"linux-image-{kernel.RELEASE}", f"linux-modules-{kernel.RELEASE}"]
    origins = {package.origin for package in lock.packages.values()}
    assert origins == ({"ubuntu", "nvidia", "built"} if walk.driver else {"ubuntu"})
    assert (lock.driver.version if lock.driver else "") == (DRIVER.version if walk.driver else "")


@pytest.fixture(scope="module")
def build(walk: Walk, lock: Lock) -> Path:
    status, output = walk.golden("bake", IMAGE)
    assert status == 0, output
    return (walk.root / "build" / lock.image / "latest").resolve()


@pytest.mark.long
def test_the_disk_boots_and_every_check_is_correct(walk: Walk, build: Path, lock: Lock) -> None:
    """Over SSH as `ubuntu`, whose key came by the metadata service: verify logs in as nobody
    else."""
    verified = records.read(build / "verify.json", VerifyRecord)
    assert verified.verdict is Verdict.VERIFIED
    assert [check.id for check in verified.checks if check.outcome is not Outcome.CORRECT] == []
    assert [boot.firmware for boot in verified.boots] == ["bios", "uefi"]
    assert ("nvidia_driver" in {check.role for check in verified.checks}) == walk.driver
    console = (build / "serial-bios.log").read_text(encoding="utf-8", errors="replace")
    assert f"Linux version {lock.kernel.release}" in console
    assert "Ubuntu 24.04" in console


def test_who_signed_it_has_to_be_told(walk: Walk, tmp_path: Path) -> None:
    """Ubuntu's own keyring, which `make setup` installs, does not know the test's key."""
    told = {
        name: value
        for name, value in walk.told.items()
        if name != "GOLDEN_KEYRING_UBUNTU_ARCHIVE_KEYRING"
    }
    status, output = finish(
        checkout.golden(walk.root, "lock", IMAGE, **told | {"GOLDEN_CACHE": str(tmp_path)})
    )
    assert status == 4, output
    assert "apt could not read the indexes" in output
