"""Ubuntu 24.04 walked from definition to booted disk, over an archive dressed as noble (support/ubuntu/noble.py).

It proves our names, paths, the roles' tables and cloud-init's user `ubuntu`; the packages are Debian's, so it proves
nothing of Ubuntu's. The mirror and its key are told as a user tells them: GOLDEN_MIRROR_UBUNTU and
GOLDEN_KEYRING_UBUNTU_ARCHIVE_KEYRING. The driver and CUDA of NVIDIA's repository are left out of the definition.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.model import lockfile
from goldenami.model.build_records import Outcome, Verdict, VerifyRecord
from goldenami.model.lockfile import Lock
from goldenami.packages import mirrors
from goldenami.packages.store import Store
from support.builds import checkout
from support.builds.bakes import finish, settle
from support.builds.tools import need
from support.debian import debrepo
from support.ubuntu import kernel
from support.ubuntu.noble import Noble

pytestmark = pytest.mark.slow
IMAGE = "ubuntu-24.04-ml-gpu"
LEFT_OUT = ("cuda", "nvidia_driver")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout whose Ubuntu image has no driver, and a smaller disk."""
    copy = checkout.copy(tmp_path_factory.mktemp("ubuntu") / "root")
    path = copy / f"packer/images/{IMAGE}.yml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["disk_size_gib"] = 4  # room for a driver and CUDA is not needed
    data["roles"] = {role: given for role, given in data["roles"].items() if role not in LEFT_OUT}
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    yield copy
    assert settle(copy) == []
    shutil.rmtree(copy, ignore_errors=True)


@pytest.fixture(scope="module")
def archive(root: Path, key: debrepo.Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[debrepo.Mirror]:
    """The archive on loopback."""
    need("zstd", "dpkg-deb", "gpg")
    folder = tmp_path_factory.mktemp("noble")
    Noble(root, IMAGE, folder, Store(CachePaths.default().root, proxy=mirrors.proxy), key)
    mirror = debrepo.Mirror(folder)
    yield mirror
    mirror.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def told(archive: debrepo.Mirror, key: debrepo.Key, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a user with a mirror of their own sets; layers are in a cache of this test's own."""
    return {"GOLDEN_MIRROR_UBUNTU": archive.uri, "GOLDEN_KEYRING_UBUNTU_ARCHIVE_KEYRING": str(key.keyring),
            "GOLDEN_CACHE": str(checkout.cache(tmp_path_factory.mktemp("cache") / "golden"))}


@pytest.fixture(scope="module")
def lock(root: Path, told: dict[str, str]) -> Lock:
    """What `golden lock` makes of it."""
    status, output = finish(checkout.golden(root, "lock", IMAGE, **told))
    assert status == 0, output
    return lockfile.read(lockfile.path_of(root, IMAGE))[0]


def test_another_key_is_not_trusted(root: Path, told: dict[str, str], tmp_path: Path) -> None:
    """The archive's own keyring, which `make setup` installs, did not sign it."""
    told = {name: value for name, value in told.items() if not name.startswith("GOLDEN_KEYRING")}
    status, output = finish(checkout.golden(root, "lock", IMAGE, **told, HOME=str(tmp_path)))
    assert status == 4, output
    assert "apt could not read the indexes" in output


def test_the_lock_has_ubuntu_s_names(lock: Lock) -> None:
    assert (lock.base.distribution, lock.base.release, lock.base.major) == ("ubuntu", "noble", 24)
    assert [suite.suite for suite in lock.base.suites] == ["noble", "noble-security", "noble-updates"]
    assert (lock.kernel.package, lock.kernel.release) == (f"linux-image-{kernel.RELEASE}", kernel.RELEASE)
    modules = next(step for step in lock.steps if step.roles == ["kernel"]).packages
    assert modules == [f"linux-image-{kernel.RELEASE}", f"linux-modules-{kernel.RELEASE}"]
    assert {package.origin for package in lock.packages.values()} == {"ubuntu"}


@pytest.fixture(scope="module")
def build(root: Path, told: dict[str, str], lock: Lock) -> Path:
    """The folder of the build that `golden bake` made, booted and looked at."""
    assert lock.image == IMAGE
    status, output = finish(checkout.golden(root, "bake", IMAGE, **told))
    assert status == 0, output
    return (root / "build" / IMAGE / "latest").resolve()


def test_the_disk_boots_and_every_check_is_correct(build: Path, lock: Lock) -> None:
    """Over SSH as `ubuntu`, whose key came by the metadata service: verify logs in as nobody else."""
    verified = records.read(build / "verify.json", VerifyRecord)
    assert verified.verdict is Verdict.VERIFIED
    assert [check.id for check in verified.checks if check.outcome is not Outcome.CORRECT] == []
    assert [boot.firmware for boot in verified.boots] == ["bios", "uefi"]
    console = (build / "serial-bios.log").read_text(encoding="utf-8", errors="replace")
    assert f"Linux version {lock.kernel.release}" in console
    assert "Ubuntu 24.04" in console
