"""Images whose driver is from NVIDIA's repository: locked, watched, and every way in which that
archive may fail.

The archive is `support/debian/nvidia_archive.py`: NVIDIA's layout, names and key file around
Debian's own driver.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome, Verdict, VerifyRecord
from goldenami.watch.watch_records import WatchRecord
from support.builds.bakes import settle
from support.debian import debrepo, nvidia_archive, nvidia_checkout, nvidia_packages
from support.debian.debrepo import Package
from support.debian.nvidia_checkout import NvidiaCheckout
from support.debian.nvidia_packages import DriverRelease
from support.debian.repack import Origins

pytestmark = pytest.mark.long
OLD, NEW, NEXT = "580.95.05", "580.105.08", "590.48.01"
PARTS = (
    "firmware-nvidia-gsp",
    "libcuda1",
    "libnvidia-cfg1",
    "libnvidia-ml1",
    "libnvidia-ptxjitcompiler1",
    "nvidia-driver-cuda",
    "nvidia-fabricmanager",
    "nvidia-modprobe",
    "nvidia-persistenced",
)
DAY_S = 86400


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Origins:
    return Origins(tmp_path_factory.mktemp("origins"))


@pytest.fixture(scope="module")
def image(
    key: debrepo.Key, origins: Origins, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NvidiaCheckout]:
    """A checkout with a lock of driver OLD and its fabric manager; the archive has every release of
    the past too."""
    folder = tmp_path_factory.mktemp("nvidia")
    with nvidia_checkout.served(
        folder, key, origins, DriverRelease("575.57.08"), DriverRelease(OLD)
    ) as made:
        made.define(nvidia_driver_fabricmanager_enabled="true")
        code, said = made.golden("lock", made.image)
        assert code == 0, said
        yield made


def test_a_release_is_locked_whole(image: NvidiaCheckout) -> None:
    lock = image.lock()
    assert lock.driver is not None
    assert (lock.driver.version, lock.driver.flavour, lock.driver.source) == (OLD, "open", "nvidia")
    assert {
        name: (lock.packages[name].version, lock.packages[name].origin) for name in PARTS
    } == dict.fromkeys(PARTS, (f"{OLD}-1", "nvidia"))
    assert lock.driver.modules is not None
    assert lock.driver.modules.build["nvidia-kernel-open-dkms"].origin == "nvidia"
    assert "nvidia" in {suite.suite for suite in lock.base.suites}
    assert "127.0.0.1" not in image.lock_file.read_text(encoding="utf-8"), "a lock names no host"
    code, said = image.golden("check", image.image)
    assert code == 0, said


def seen(image: NvidiaCheckout) -> dict[str, tuple[str, str, str]]:
    text = (image.root / "build/watch/watch.json").read_text(encoding="utf-8")
    return {
        row.component: (row.verdict.value, row.available, row.source)
        for row in WatchRecord.model_validate_json(text).rows
    }


@pytest.fixture
def fails(image: NvidiaCheckout, key: debrepo.Key) -> Iterator[NvidiaCheckout]:
    """The same checkout; what a test breaks is mended after it."""
    locks = {path: path.read_bytes() for path in image.lock_file.parent.glob(f"{image.image}.*")}
    definition, env, entries = image.definition, dict(image.env), dict(image.archive.flat.entries)
    yield image
    for path, data in locks.items():
        path.write_bytes(data)
    image.definition, image.env = definition, env
    image.archive.flat.key, image.archive.flat.entries = key, entries
    image.archive.publish(date=debrepo.DATE + DAY_S)


def refused(image: NvidiaCheckout, command: str, code: int, why: str) -> None:
    """The command ends with `code` and one line that says why, and leaves the lock as it was."""
    before = image.lock_file.read_bytes()
    done, said = image.golden(command, image.image)
    assert (done, [line for line in said.splitlines() if why in line] != []) == (code, True), said
    assert image.lock_file.read_bytes() == before


def test_an_archive_that_cannot_be_reached_or_believed(
    fails: NvidiaCheckout,
    key: debrepo.Key,
) -> None:
    """Out of reach, expired, signed by another key, with a key that is not the pinned one."""
    own = dict(fails.env)
    fails.env["GOLDEN_MIRROR_NVIDIA"] = "http://127.0.0.1:9/debian13/x86_64"
    for command in ("lock", "watch"):
        refused(fails, command, 4, "127.0.0.1:9/debian13/x86_64")
    fails.env = own
    fails.archive.publish(date=debrepo.DATE + DAY_S, valid_for_s=DAY_S)
    refused(fails, "lock", 4, "is expired (invalid since")
    other = debrepo.Key()
    try:
        fails.archive.flat.key = other
        fails.archive.flat.publish(date=debrepo.DATE + DAY_S)  # the key beside it stays NVIDIA's
    finally:
        other.close()
    refused(fails, "lock", 4, "apt could not read the indexes: ")
    fails.define(nvidia_driver_repository_key_fingerprint="A" * 40)
    for command in ("lock", "watch"):
        said = f"the key of the archive `nvidia` is {key.fingerprint}, not {'A' * 40}"
        refused(fails, command, 4, said)


def test_half_a_release_is_passed_over(fails: NvidiaCheckout) -> None:
    fails.archive.release(
        DriverRelease("580.126.09", lacking=frozenset({"nvidia-kernel-open-dkms"}))
    )
    fails.archive.release(DriverRelease("580.126.10", lacking=frozenset({"libcuda1"})))
    fails.archive.publish(date=debrepo.DATE + DAY_S)
    code, said = fails.golden("watch", fails.image)
    assert (code, seen(fails)["driver"][:2]) == (0, ("refused", "580.126.10")), said
    code, said = fails.golden("lock", fails.image)
    assert code == 0, said
    assert (
        "580.126.09: libcuda1 has it, but nvidia-kernel-open-dkms does not: half a driver" in said
    )
    assert (
        "580.126.10: nvidia-kernel-open-dkms has it, but libcuda1 does not: half a driver" in said
    )
    fails.archive.flat.remove(f"*_{OLD}-1_*.deb")
    fails.archive.publish(date=debrepo.DATE + DAY_S)
    refused(
        fails,
        "lock",
        3,
        "no driver of branch 580: 580.126.10: nvidia-kernel-open-dkms has it, but libcuda1 does",
    )


def test_a_fabric_manager_of_another_version(fails: NvidiaCheckout) -> None:
    """CUDA would not start on machines with an NVSwitch."""
    fails.archive.flat.remove(f"nvidia-fabricmanager_{OLD}-1_*.deb")
    fails.archive.release(DriverRelease(OLD, fabric_manager=NEW))
    fails.archive.publish(date=debrepo.DATE + DAY_S)
    refused(fails, "lock", 3, f"nvidia-fabricmanager is {NEW}-1, the driver is {OLD}")


def test_the_container_toolkit_is_of_a_repository_of_its_own(
    fails: NvidiaCheckout,
    key: debrepo.Key,
    origins: Origins,
) -> None:
    """Its address is on another host of NVIDIA's; the copy of the role names the test's key, and
    where it is."""
    names = nvidia_packages.CONTAINER_TOOLKIT
    role = fails.root / "roles/container_runtime/vars/main.yml"
    text = re.sub(
        r"fingerprint: \w+", f"fingerprint: {key.fingerprint}", role.read_text(encoding="utf-8")
    )
    text = re.sub(
        r"key: \S+/gpgkey", f"key: {fails.mirror.uri}/{nvidia_archive.CONTAINERS}/gpgkey", text
    )
    role.write_text(text, encoding="utf-8")
    fails.env["GOLDEN_MIRROR_NVIDIA_CONTAINER"] = (
        f"{fails.mirror.uri}/{nvidia_archive.CONTAINERS}/stable/deb/amd64"
    )
    wanted = "  container_runtime:\n    container_runtime_gpu_source: nvidia\n"
    fails.definition = fails.definition.replace("  kernel:\n", f"{wanted}  kernel:\n", 1)
    nvidia_archive.containers(
        fails.mirror.folder, key, nvidia_packages.container_toolkit("1.18.1"), origins
    )
    code, said = fails.golden("lock", fails.image)
    assert code == 0, said
    lock = fails.lock()
    assert {(lock.packages[name].version, lock.packages[name].origin) for name in names} == {
        ("1.18.1-1", "nvidia-container")
    }
    assert {"nvidia", "nvidia-container"} <= {suite.suite for suite in lock.base.suites}


CUDA = {
    "cuda-compiler": "cuda-nvcc",
    "cuda-libraries": "cuda-cudart",
    "cuda-libraries-dev": "libcublas-dev",
    "cuda-cupti": "",
    "cuda-nvml-dev": "",
    "cuda-nvcc": "",
    "cuda-cudart": "",
    "libcublas-dev": "",
}
"""Packages that the role names, and what each needs. A lock reads their names and versions only."""


def test_cuda_and_a_kept_repository(
    fails: NvidiaCheckout, key: debrepo.Key, tmp_path: Path
) -> None:
    """An image that keeps the repository gets its key by the lock."""
    for name, needs in CUDA.items():
        package = Package(f"{name}-13-0", "13.0.88-1", depends=f"{needs}-13-0" if needs else "")
        fails.archive.flat.add([debrepo.build(package, tmp_path / package.file)])
    fails.archive.publish(date=debrepo.DATE + DAY_S)
    wanted = (
        '  cuda:\n    cuda_source: nvidia\n    cuda_release: "13.0"\n    cuda_variant: toolkit\n'
    )
    fails.definition = fails.definition.replace("  kernel:\n", f"{wanted}  kernel:\n", 1)
    fails.define(nvidia_driver_repository_enabled="true")
    code, said = fails.golden("lock", fails.image)
    assert code == 0, said
    lock = fails.lock()
    assert lock.cuda is not None and lock.cuda.version == lock.variables["cuda_version"] == "13.0"
    assert {
        lock.packages[name].origin
        for name in ("cuda-nvcc-13-0", "cuda-cudart-13-0", "libcublas-dev-13-0")
    } == {"nvidia"}
    assert lock.variables["nvidia_driver_repository_key"] == key.public


def test_a_newer_release_is_noticed_and_taken_as_a_whole(image: NvidiaCheckout) -> None:
    """One of the branch is taken; the next branch, which the archive has too, is not."""
    code, said = image.golden("watch", image.image)
    assert (code, seen(image)["driver"]) == (0, ("current", OLD, "")), said
    image.archive.release(DriverRelease(NEW)).release(DriverRelease(NEXT)).publish(
        date=debrepo.DATE + 2 * DAY_S
    )
    code, said = image.golden("watch", image.image)
    assert (code, seen(image)["driver"]) == (10, ("update", NEW, "nvidia")), said
    code, said = image.golden("watch", image.image, "--update")
    assert code == 0, said
    lock = image.lock()
    assert lock.driver is not None and lock.driver.version == NEW
    assert {lock.packages[name].version for name in PARTS} == {f"{NEW}-1"}
    code, said = image.golden("watch", image.image)
    assert code == 0, said


def test_the_image_boots_and_every_check_is_correct(image: NvidiaCheckout) -> None:
    """From the lock of the newer release to a verified disk: modules, libraries, units,
    firmware."""
    code, said = image.golden("bake", image.image)
    assert code == 0, said
    verified = records.read(image.root / "build" / image.image / "latest/verify.json", VerifyRecord)
    assert verified.verdict is Verdict.VERIFIED
    assert [check.id for check in verified.checks if check.outcome is not Outcome.CORRECT] == []
    assert "nvidia_driver" in {check.role for check in verified.checks}
    assert settle(image.root) == []
