"""A lock whose parts do not fit stops every stage: it is not written, and where it is there it is
not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from support.debian import debrepo
from support.debian.debrepo import Archive, Package
from support.debian.lock_commands import IMAGE, edit, golden, lock_path

pytestmark = pytest.mark.usefixtures("debian")
TOOLKIT, LIBRARY = "nvidia-container-toolkit", "libnvidia-container1"
SEVERAL = f"the container toolkit is of several versions: {TOOLKIT} 1.17.8-1, {LIBRARY} 1.17.4-1"


Upstream = Callable[[str], None]


@pytest.fixture
def upstream(
    key: debrepo.Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Upstream]:
    """The security archive with NVIDIA's toolkit of a version; its library stays behind."""
    mirrors: list[debrepo.Mirror] = []

    def release(version: str) -> None:
        folder = tmp_path / f"toolkit-{version}"
        Archive(folder, key, label="Debian-Security", suites=("trixie-security",)).add(
            [Package(TOOLKIT, f"{version}-1", depends=LIBRARY), Package(LIBRARY, "1.17.4-1")]
        ).publish(date=debrepo.DATE + len(mirrors))
        mirrors.append(debrepo.Mirror(folder))
        monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", mirrors[-1].uri)

    yield release
    for mirror in mirrors:
        mirror.close()


@contextmanager
def changed(root: Path) -> Iterator[dict[str, object]]:
    """Changes to the lock's parts, written with a checksum that is theirs."""
    changes: dict[str, object] = {}
    yield changes
    lock, _ = lockfile.read(lock_path(root))
    lockfile.write(lock_path(root), Lock.model_validate(lock.model_copy(update=changes)))


def test_a_release_that_does_not_fit_is_blocked_and_the_old_lock_stays(
    root: Path, upstream: Upstream
) -> None:
    edit(root, "  os_updates:\n", f"  os_updates:\n    os_updates_extra_packages: [{TOOLKIT}]\n")
    upstream("1.17.4")
    assert golden(root, "lock", IMAGE).returncode == 0
    before = lock_path(root).read_bytes()
    upstream("1.17.8")
    done = golden(root, "watch", IMAGE, "--update")
    assert (done.returncode, SEVERAL in done.stdout) == (0, True), done.stdout + done.stderr
    assert "blocked" in done.stdout
    done = golden(root, "lock", IMAGE)
    said = f"golden: error: the parts of {IMAGE} do not fit: {SEVERAL}\n"
    assert (done.returncode, said in done.stderr) == (3, True), done.stderr
    assert lock_path(root).read_bytes() == before


def test_it_is_not_baked(root: Path, debian: debrepo.Mirror) -> None:
    assert golden(root, "lock", IMAGE).returncode == 0
    with changed(root) as changes:
        lock, _ = lockfile.read(lock_path(root))
        changes["packages"] = {
            name: one for name, one in lock.packages.items() if name != lock.kernel.package
        }
    debian.requests.clear()
    for stage in ("bake", "reproduce", "check"):
        done = golden(root, stage, IMAGE)
        assert done.returncode == 2, (stage, done.stdout + done.stderr)
        said = f"{lock.kernel.package} {lock.kernel.version} is not among the packages"
        assert said in (done.stdout if stage == "check" else done.stderr), stage
    assert debian.requests == []


def test_a_warning_stops_only_a_strict_check(root: Path) -> None:
    edit(root, "[c7i, m7i, c7a, m7a]", "[c7i, g4ad]")
    warning = "warning: the Radeon Pro V520 of g4ad stays idle"
    done = golden(root, "lock", IMAGE)
    assert (done.returncode, warning in done.stderr) == (0, True), done.stderr
    assert golden(root, "check", IMAGE).returncode == 0
    strict = golden(root, "check", IMAGE, "--strict")
    assert (strict.returncode, warning in strict.stdout) == (2, True)
