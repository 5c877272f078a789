"""Drivers as `golden watch` sees them: all branches of an archive, whatever the image's definition
pins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import NoFit
from goldenami.image.lock.compilation.driver_fit import LockConstraints
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import BaseLock, Cuda, Driver, Lock
from goldenami.model.supported.support import DRIVER_MOVE
from goldenami.watch import watch, watch_summary
from goldenami.watch.image_watcher import WatchedImage
from goldenami.watch.relock import Relock
from goldenami.watch.sources import archive_indexes, driver_branches
from goldenami.watch.watch_records import ComponentRow
from support.builds.definitions import PINNED, write_pinned
from support.builds.sample_lock import sample
from support.debian import debrepo, watch_checkout
from support.debian.debrepo import Archive, Package
from support.debian.watch_checkout import WatchCheckout

SOURCE = {"Source": "nvidia-graphics-drivers"}
OPEN = {"Source": "nvidia-open-gpu-kernel-modules"}
BUILD = [Package(name) for name in ("dkms", "make", "gcc", "kmod")]


def modules_package(version: str, *, flavour: str = "", suite: str = "") -> Package:
    return Package(
        f"nvidia-{flavour}kernel-dkms",
        version,
        fields=OPEN if flavour else SOURCE,
        component="non-free",
        suite=suite,
    )


def userland(version: str) -> Package:
    return Package("libcuda1", version, fields=SOURCE, component="non-free")


DEBIAN = [
    *debrepo.base_packages(),
    *BUILD,
    modules_package("550.90.07-1"),
    userland("550.90.07-1"),
    modules_package("550.144.03-1"),
    userland("550.144.03-1"),
    modules_package("560.35.05-1"),
    modules_package("550.144.03-1", flavour="open-"),
    userland("560.35.05-1"),
    modules_package("555.1.1-1"),
    userland("555.1.1-1"),
    modules_package("555.2.1-1"),
    modules_package("595.10-1"),
    userland("595.10-1"),
    Package("libcudart12", "12.4.1-1", fields={"Source": "nvidia-cuda-toolkit"}),
]
SECURITY = [modules_package("550.163.01-0+deb13u1"), userland("550.163.01-0+deb13u1")]


OLD, NEW = (
    lockfile.Kernel(
        release=f"{abi}-cloud-amd64", package=f"linux-image-{abi}-cloud-amd64", version=version
    )
    for abi, version in zip(debrepo.KERNELS, ("6.1.130-1", "6.1.140-1"), strict=True)
)


def gpu_lock(version: str, kernel: lockfile.Kernel = NEW) -> Lock:
    """A lock as of when that driver was the newest; its packages do not matter here."""
    return sample(
        image=PINNED,
        kernel=kernel,
        base=BaseLock(
            distribution="debian", release="trixie", major=13, architecture="amd64", suites=[]
        ),
        hardware=sample().hardware.model_copy(
            update={"families": ["g4dn", "p5"], "sm": ["75", "90"]}
        ),
        packages={},
        driver=Driver(
            version=version,
            branch=version.partition(".")[0],
            flavour="proprietary",
            source="debian",
            cuda="12.4",
            modules=None,
        ),
        cuda=Cuda(version="12.4", variant="runtime", why=""),
    )


def write_lock(checkout: WatchCheckout, version: str, kernel: lockfile.Kernel = NEW) -> None:
    lockfile.write(lockfile.path_of(checkout.root, PINNED), gpu_lock(version, kernel))


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
    root: Path,
    served: debrepo.Mirror,
    key: debrepo.Key,
    offline: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> WatchCheckout:
    watch_checkout.environment(monkeypatch, key, tmp_path / "cache", served.uri)
    monkeypatch.chdir(root)
    write_pinned(root)
    made = WatchCheckout(root, served, key, capsys, monkeypatch, tmp_path, image=PINNED)
    write_lock(made, "550.144.03")
    return made


def told(row: ComponentRow) -> tuple[str, str, str]:
    return row.available, row.verdict.value, row.reason


def test_the_branch_moves_by_a_security_update(checkout: WatchCheckout) -> None:
    code, said = checkout.watch()
    assert code == 10, said
    assert told(checkout.row("driver")) == ("550.163.01", "update", "")
    assert checkout.row("driver").source == "debian-security trixie-security"
    assert (
        f"driver branch 550 has ended, NVIDIA says: no more fixes of its own come: {DRIVER_MOVE}"
        in said
    )


def test_an_old_table_of_branches_is_named_once_for_all_images(checkout: WatchCheckout) -> None:
    path = definition_file.path_of(checkout.root, PINNED)
    image = WatchedImage(
        definition_file.load(checkout.root, path),
        *lockfile.read(lockfile.path_of(checkout.root, PINNED)),
    )
    record, _ = watch.read_sources(
        checkout.root, CachePaths.default(), [image, image], "2037-01-01T00:00:00Z"
    )
    assert sum("driver_branches.yml was read on" in text for text in record.warnings) == 1


FAILED = "driver 550.163.01 on 6.1.0-50-cloud-amd64: nv-pci.c:237: error: x_y"


@pytest.mark.parametrize(
    ("fits", "driver", "kernel"),
    [
        (("550.163.01", "6.1.140-1"), "update", "update"),
        (("550.144.03", "6.1.140-1"), "blocked", "update"),
        (("550.163.01", "6.1.130-1"), "update", "blocked"),
        (None, "blocked", "blocked"),
    ],
)
def test_what_does_not_compile_is_blocked_and_keeps_nothing_else_away(
    checkout: WatchCheckout,
    fits: tuple[str, str] | None,
    driver: str,
    kernel: str,
) -> None:
    """The pairs that were tried say so; the one that fits becomes the lock."""
    write_lock(checkout, "550.144.03", kernel=OLD)
    image = WatchedImage(
        definition_file.load(checkout.root, definition_file.path_of(checkout.root, PINNED)),
        *lockfile.read(lockfile.path_of(checkout.root, PINNED)),
    )
    record, results = watch.read_sources(
        checkout.root, CachePaths.default(), [image], "2026-11-25T00:00:00Z"
    )
    tried = list[tuple[str, str]]()

    def make_lock(_: Definition, wanted: LockConstraints) -> tuple[Lock, str]:
        assert wanted.kernel is not None
        tried.append((wanted.driver, wanted.kernel.version))
        if tried[-1] != fits:
            raise NoFit("no driver compiles", tail=FAILED)
        return gpu_lock(wanted.driver, wanted.kernel), "f" * 64

    done, failures = Relock(checkout.root, make_lock, wait=False).run(record, results)
    rows = {row.component: row for row in done.rows}
    assert (rows["driver"].verdict.value, rows["kernel"].verdict.value) == (driver, kernel)
    assert {row.reason for row in done.rows if row.verdict is UpdateVerdict.BLOCKED} <= {
        f"no driver compiles: {FAILED}"
    }
    assert (tried[0], len(tried), failures) == (("550.163.01", "6.1.140-1"), len(set(tried)), [])
    assert len(done.changes) == (fits is not None)
    for text in (watch_summary.headline(done), watch_summary.markdown(done)):
        blocked = text.splitlines()[0].partition("blocked:")[2]
        assert ("driver 550.163.01" in blocked) == (driver == "blocked")


def lock_cuda_12_3(checkout: WatchCheckout) -> Path:
    """Write the lock of an image with CUDA 12.3, one release behind the archive; returns its
    path."""
    lock, path = gpu_lock("550.163.01"), lockfile.path_of(checkout.root, PINNED)
    assert lock.cuda is not None
    runtime = lockfile.Package(
        version="12.3.0-1",
        architecture="amd64",
        sha256="0" * 64,
        size=1,
        installed_size=1,
        origin="debian",
        path="x",
        source="nvidia-cuda-toolkit",
    )
    lockfile.write(
        path,
        lock.model_copy(
            update={
                "cuda": lock.cuda.model_copy(update={"version": "12.3"}),
                "packages": {"libcudart12": runtime},
            }
        ),
    )
    return path


def test_a_locked_branch_that_vanished(checkout: WatchCheckout) -> None:
    write_lock(checkout, "470.256.02")
    code, said = checkout.watch()
    assert code == 4
    assert (
        f"driver branch 470: vanished: {PINNED} is locked at 470.256.02, the archives have " in said
    )
    assert "branches 550, 555, 560, 595" in said


def test_a_version_that_a_person_writes_makes_no_lock(checkout: WatchCheckout) -> None:
    write_lock(checkout, "550.163.01")
    path = lock_cuda_12_3(checkout)
    before = path.read_bytes()
    checkout.define("", "  cuda:\n", '  cuda:\n    cuda_source: nvidia\n    cuda_release: "12.3"\n')
    for update in ((), ("--update",)):
        _, said = checkout.watch(*update)
        assert "a person moves it: cuda_release of the definition" in said
    assert path.read_bytes() == before


def test_a_pin_does_not_hide_a_release(checkout: WatchCheckout, served: debrepo.Mirror) -> None:
    """Preferences that hold the locked driver, as an image has them, change nothing in what the
    indexes show."""
    wanted = definition_file.load(checkout.root, definition_file.path_of(checkout.root, PINNED))
    seen = archive_indexes.read_archives(wanted.base, CachePaths.default())
    seen.apt.pin({"src:nvidia-graphics-drivers:any": "550.90.07-*"})
    offers = driver_branches.offers(checkout.root, wanted, seen.apt, lambda *_: None)
    assert {"550.90.07", "550.144.03", "550.163.01", "560.35.05"} <= {
        offer.version for offer in offers
    }
