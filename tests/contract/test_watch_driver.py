"""Drivers as `golden watch` sees them: all branches of an archive, whatever the image's definition
pins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.image.lock.compilation import driver_fit, kernel_modules
from goldenami.image.lock.compilation.kernel_modules import ModuleOutcome
from goldenami.model.builds import lockfile
from goldenami.model.builds.lockfile import BaseLock, Cuda, Driver, Lock
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.update_policy import BranchType
from goldenami.packages.store import Store
from goldenami.watch.sources import archive_indexes, branches, driver_branches
from goldenami.watch.watch_records import ComponentRow, WatchRecord
from support.builds.sample_lock import sample
from support.debian import debrepo
from support.debian.debrepo import Archive, Fault, Package

IMAGE = "debian-13-ml-gpu-frameworks"
SOURCE = {"Source": "nvidia-graphics-drivers"}
OPEN = {"Source": "nvidia-open-gpu-kernel-modules"}
BUILD = [Package(name) for name in ("dkms", "make", "gcc", "kmod")]


def modules_package(version: str, *, flavour: str = "", suite: str = "") -> Package:
    return Package(f"nvidia-{flavour}kernel-dkms", version, fields=OPEN if flavour else SOURCE,
                   component="non-free",
                   suite=suite)


def userland(version: str) -> Package:
    return Package("libcuda1", version, fields=SOURCE, component="non-free")


DEBIAN = [*debrepo.base_packages(), *BUILD, modules_package("550.90.07-1"),
          userland("550.90.07-1"),
          modules_package("550.144.03-1"), userland("550.144.03-1"),
          modules_package("560.35.05-1"),
          modules_package("550.144.03-1", flavour="open-"), userland("560.35.05-1"),
          modules_package("555.1.1-1"), userland("555.1.1-1"), modules_package("555.2.1-1"),
          modules_package("595.10-1"), userland("595.10-1"),
          Package("libcudart12", "12.4.1-1", fields={"Source": "nvidia-cuda-toolkit"})]
SECURITY = [modules_package("550.163.01-0+deb13u1"), userland("550.163.01-0+deb13u1")]


OLD, NEW = (lockfile.Kernel(release=f"{abi}-cloud-amd64", package=f"linux-image-{abi}-cloud-amd64",
                            version=version)
            for abi, version in zip(debrepo.KERNELS, ("6.1.130-1", "6.1.140-1"), strict=True))


def gpu_lock(version: str, flavour: str = "proprietary", kernel: lockfile.Kernel = NEW) -> Lock:
    """A lock as of when that driver was the newest; its packages do not matter here."""
    return sample(
        image=IMAGE, kernel=kernel,
        base=BaseLock(distribution="debian", release="trixie", major=13, architecture="amd64",
                      suites=[]),
        hardware=sample().hardware.model_copy(update={"families": ["g4dn", "p5"],
                                                      "sm": ["75", "90"]}), packages={},
        driver=Driver(version=version, branch=version.partition(".")[0], flavour=flavour,
                      source="debian",
                      cuda="12.4", modules=None),
        cuda=Cuda(version="12.4", variant="runtime", why=""),
    )


def untried(version: str) -> str:
    """What is said of an update on a machine that never compiled it."""
    return f"not yet compiled: driver {version} on {NEW.release}"


@dataclass
class GpuCheckout:
    """A checkout with a GPU image, served archives, and `golden watch` on it."""

    root: Path
    cache: Path
    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def watch(self, *args: str) -> tuple[int, str]:
        code = cli.main(["watch", IMAGE, *args])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def row(self, component: str = "driver") -> ComponentRow:
        text = (self.root / "build/watch/watch.json").read_text(encoding="utf-8")
        return next(row for row in WatchRecord.model_validate_json(text).rows if row.component
                    == component)

    def lock(
        self, version: str, flavour: str = "proprietary", kernel: lockfile.Kernel = NEW
    ) -> None:
        lockfile.write(lockfile.path_of(self.root, IMAGE), gpu_lock(version, flavour, kernel))

    def define(self, section: str, old: str = "", new: str = "") -> None:
        path = definition_file.path_of(self.root, IMAGE)
        path.write_text(path.read_text(encoding="utf-8").replace(old, new) + section + "\n",
                        encoding="utf-8")

    def refuse(self, version: str, reason: str) -> None:
        """Remember that `version` was compiled on the newest kernel and failed, as a try on this
        machine does.

        Without a reason it did not fail.
        """
        wanted = definition_file.load(self.root, definition_file.path_of(self.root, IMAGE))
        seen = archive_indexes.look(wanted.base, CachePaths(self.cache))
        known = driver_branches.requests(self.root, wanted, [version.partition(".")[0]])
        candidate = next(one for one in driver_fit.candidates(seen.apt, known) if one.version
                         == version)
        recipe = driver_fit.module_build(seen.apt, NEW, candidate, suite="trixie", signature=None)
        store = Store(self.cache)
        assert kernel_modules.known(recipe, store) is None
        made = None if reason else store.add(definition_file.path_of(self.root, IMAGE))
        size = 0 if made is None else store.path(made).stat().st_size
        records.write(store.cache.modules / f"{recipe.key}.json", ModuleOutcome(
            key=recipe.key, deb_sha256=made, deb_size=size, installed_size=0, compiler="gcc 14",
            first_error=reason,
            seconds=1.0))


@pytest.fixture(scope="module")
def served(key: debrepo.Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[debrepo.Mirror]:
    folder = tmp_path_factory.mktemp("gpu")
    Archive(folder / "debian", key, label="Debian", suites=("trixie", "trixie-updates")).add(
        DEBIAN
    ).publish()
    Archive(folder / "security", key, label="Debian-Security", suites=("trixie-security",)).add(
        SECURITY
    ).publish()
    mirror = debrepo.Mirror(folder)
    yield mirror
    mirror.close()


@pytest.fixture
def checkout(
    root: Path, served: debrepo.Mirror, key: debrepo.Key, offline: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> GpuCheckout:
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", f"{served.uri}/debian")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", f"{served.uri}/security")
    monkeypatch.setenv("GOLDEN_KEYRING_DEBIAN_ARCHIVE_KEYRING", str(key.keyring))
    monkeypatch.chdir(root)
    made = GpuCheckout(root, tmp_path / "cache", capsys, monkeypatch)
    made.lock("550.144.03")
    return made


def told(row: ComponentRow) -> tuple[str, str, str]:
    return row.available, row.verdict.value, row.reason


def test_the_branch_moves_by_a_security_update(checkout: GpuCheckout) -> None:
    code, said = checkout.watch()
    assert code == 10, said
    assert told(checkout.row()) == ("550.163.01", "update", untried("550.163.01"))
    assert checkout.row().source == "debian-security trixie-security"
    assert "driver branch 550 has ended" in said


def test_what_compiled_on_this_machine_is_no_longer_said_to_be_untried(
    checkout: GpuCheckout,
) -> None:
    checkout.lock("550.144.03", kernel=OLD)
    assert checkout.watch()[0] == 10
    assert told(checkout.row()) == ("550.163.01", "update",
                                    untried("550.163.01").replace(NEW.release, OLD.release))
    assert told(checkout.row("kernel")) == ("6.1.140-1", "update", untried("550.163.01"))
    checkout.refuse("550.163.01", "")
    assert checkout.watch()[0] == 10
    assert told(checkout.row("kernel")) == ("6.1.140-1", "update", "")


def test_a_candidate_that_failed_to_compile_is_blocked_and_never_locked(
    checkout: GpuCheckout,
) -> None:
    error = "nv-pci.c:237: error: too few arguments to function 'pci_resize_resource'"
    checkout.refuse("550.163.01", error)
    before = lockfile.path_of(checkout.root, IMAGE).read_bytes()
    blocked = ("550.163.01", "blocked",
               f"driver 550.163.01 does not compile on 6.1.0-50-cloud-amd64: {error}")
    for args in ((), ("--update",)):
        code, said = checkout.watch(*args)
        assert code == 0, said
        assert told(checkout.row()) == blocked
        assert f"blocked: driver 550.163.01 of {IMAGE}" in said
    assert error.replace("_", r"\_") in (checkout.root / "build/watch/summary.md").read_text(
        encoding="utf-8"
    )
    assert lockfile.path_of(checkout.root, IMAGE).read_bytes() == before


def test_a_kernel_on_which_the_driver_does_not_compile_is_blocked(checkout: GpuCheckout) -> None:
    """The driver is the one that the new lock would have: the one that moves, or the locked one."""
    checkout.refuse("550.163.01", "nv-pci.c:237: error: x")
    blocked = ("6.1.140-1", "blocked", "driver 550.163.01 does not compile on "
               "6.1.0-50-cloud-amd64: nv-pci.c:237: error: x")
    for locked, verdict, code in (("550.144.03", "update", 10), ("550.163.01", "held", 0)):
        checkout.lock(locked, kernel=OLD)
        assert checkout.watch()[0] == code
        assert checkout.row().verdict.value == verdict
        assert told(checkout.row("kernel")) == blocked
    before = lockfile.path_of(checkout.root, IMAGE).read_bytes()
    assert checkout.watch("--update")[0] == 0
    assert lockfile.path_of(checkout.root, IMAGE).read_bytes() == before


def lock_cuda_12_3(checkout: GpuCheckout) -> Path:
    """Write the lock of an image with CUDA 12.3, one release behind the archive; returns its
    path."""
    lock, path = gpu_lock("550.163.01"), lockfile.path_of(checkout.root, IMAGE)
    assert lock.cuda is not None
    runtime = lockfile.Package(version="12.3.0-1", architecture="amd64", sha256="0" * 64, size=1,
                               installed_size=1,
                               origin="debian", path="x", source="nvidia-cuda-toolkit")
    lockfile.write(path,
                   lock.model_copy(update={"cuda": lock.cuda.model_copy(update={"version": "12.3"}),
                                           "packages": {"libcudart12": runtime}}))
    return path


def test_the_newest_kernel_that_the_driver_fits_is_taken(checkout: GpuCheckout) -> None:
    """A newer one, on which it does not compile, is named."""
    checkout.lock("550.163.01",
                  kernel=lockfile.Kernel(release="6.1.0-48-cloud-amd64", package="x",
                                         version="6.1.120-1"))
    checkout.refuse("550.163.01", "nv-pci.c:237: error: x")
    assert checkout.watch()[0] == 10
    assert told(checkout.row("kernel")) == ("6.1.130-1", "update", (
        "6.1.140-1: driver 550.163.01 does not compile on 6.1.0-50-cloud-amd64: nv-pci.c:237: "
        "error: x; "
        f"not yet compiled: driver 550.163.01 on {OLD.release}"))


def test_a_locked_branch_that_vanished(checkout: GpuCheckout) -> None:
    checkout.lock("470.256.02")
    code, said = checkout.watch()
    assert code == 4
    assert (
        f"driver branch 470: vanished: {IMAGE} is locked at 470.256.02, the archives have " in said
    )
    assert "branches 550, 555, 560, 595" in said


@pytest.mark.parametrize(("source", "fault", "said"), [
    ("NVIDIA releases.json", Fault.FLOOD, "is larger than 32 MiB"),
    ("Python index: numpy", Fault.CIRCLE, "too many redirects"),
])
def test_a_source_that_floods_or_leads_in_a_circle_is_left(
    checkout: GpuCheckout, served: debrepo.Mirror, source: str, fault: Fault, said: str,
) -> None:
    """It is an error that names it, and the others have reported; of two gigabytes few are
    taken."""
    checkout.patch.setattr(served, "faults", {"/outside/*": fault})
    checkout.patch.setattr(served, "flooded_mib", 0)
    if source.startswith("NVIDIA"):
        checkout.patch.setenv(branches.VARIABLE, f"{served.uri}/outside/releases.json")
    else:
        checkout.patch.setenv("GOLDEN_MIRROR_PYPI", f"{served.uri}/outside")
        checkout.define("watch: {frameworks: {numpy: {policy: newest}}}")
    code, printed = checkout.watch()
    assert (
        code,
        f"could not look: {source}: {served.uri}/outside/" in printed,
        said in printed,
    ) == (4, True, True), printed
    assert checkout.row().verdict.value == "update"
    assert served.flooded_mib < 64


def test_a_version_that_a_person_writes_makes_no_lock(checkout: GpuCheckout) -> None:
    """The CUDA release of NVIDIA's repository is in the definition: it is told, and left to its
    reader."""
    checkout.lock("550.163.01")
    path = lock_cuda_12_3(checkout)
    before = path.read_bytes()
    checkout.define("", "  cuda:\n", "  cuda:\n    cuda_release: \"12.3\"\n")
    assert checkout.watch()[0] == 10
    code, said = checkout.watch("--update")
    assert (code, "a person moves it: cuda_release of the definition" in said) == (0, True), said
    assert path.read_bytes() == before


def test_a_pin_does_not_hide_a_release(checkout: GpuCheckout, served: debrepo.Mirror) -> None:
    """Preferences that hold the locked driver, as an image has them, change nothing in what the
    indexes show."""
    wanted = definition_file.load(checkout.root, definition_file.path_of(checkout.root, IMAGE))
    seen = archive_indexes.look(wanted.base, CachePaths(checkout.cache))
    seen.apt.pin({"src:nvidia-graphics-drivers:any": "550.90.07-*"})
    offers = driver_branches.offers(checkout.root, wanted, seen.apt,
                                    branches.Branches(types={"550": BranchType.LTS}))
    assert {"550.90.07", "550.144.03", "550.163.01", "560.35.05"} <= {
        offer.version for offer in offers
    }


def test_half_a_driver_is_none(checkout: GpuCheckout) -> None:
    """Modules whose userland is missing; and open modules that stop while the userland goes on."""
    checkout.define("watch: {driver: {policy: branch}}")
    checkout.lock("555.1.1")
    assert checkout.watch()[0] == 0
    half = "nvidia-kernel-dkms has it, but libcuda1 does not: half a driver"
    assert told(checkout.row()) == ("555.2.1", "refused", half)
    checkout.define("", "nvidia_driver_flavour: proprietary", "nvidia_driver_flavour: open")
    checkout.lock("550.144.03", "open")
    assert checkout.watch()[0] == 0
    half = "libcuda1 has it, but nvidia-open-kernel-dkms does not: half a driver"
    assert told(checkout.row()) == ("550.163.01", "refused", half)
