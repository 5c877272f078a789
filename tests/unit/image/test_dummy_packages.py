from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.image.lock.compilation import dummy_packages
from goldenami.model.locked.lockfile import CompiledWheel, Framework, Origin, Package, Target
from goldenami.packages.pypi import PyFile
from goldenami.packages.store import Store
from support.builds import sample_inputs
from support.builds.sample_lock import sample
from support.builds.tools import need


@pytest.fixture
def store(tmp_path: Path) -> Store:
    need("dpkg-deb")
    return Store(tmp_path / "store")


def test_it_is_always_the_same_bytes(store: Store, tmp_path: Path) -> None:
    first = dummy_packages.make(store, "libcuda1", "535", "amd64")
    assert dummy_packages.make(Store(tmp_path / "other"), "libcuda1", "535", "amd64") == first
    fields = shell.output(["dpkg-deb", "--field", str(store.path(first.sha256))])
    assert "Package: libcuda1\nVersion: 535+golden\n" in fields
    # The root alone.
    assert shell.output(["dpkg-deb", "--contents", str(store.path(first.sha256))]).count("\n") == 1


def test_a_store_that_lacks_it_or_has_it_damaged_gets_it_again(store: Store) -> None:
    wanted = Package.of(dummy_packages.make(store, "libcuda1", "535", "amd64"))
    store.path(wanted.sha256).write_bytes(bytes(wanted.size))
    assert dummy_packages.have(store, "libcuda1", wanted) == wanted.deb("libcuda1")
    assert store.check(wanted.sha256)
    store.path(wanted.sha256).unlink()
    assert dummy_packages.have(store, "libcuda1", wanted) == wanted.deb("libcuda1")
    assert store.has(wanted.sha256, wanted.size)


def test_one_that_comes_out_otherwise_is_refused(store: Store) -> None:
    wanted = Package.of(dummy_packages.make(store, "libcuda1", "535", "amd64"))
    with pytest.raises(
        StageFailed, match=r"the dummy package libcuda1 came out as \w{12}, the lock names 0{12}"
    ):
        dummy_packages.have(store, "libcuda1", wanted.model_copy(update={"sha256": "0" * 64}))


def test_what_compiles_a_wheel_that_is_lacking_has_it(store: Store, tmp_path: Path) -> None:
    """No mirror has a dummy: it is made where the wheel has to be compiled, and nowhere else."""
    (tmp_path / "source").write_text("abc", encoding="utf-8")
    source = PyFile(
        project="demo",
        version="1.0",
        filename="demo-1.0.tar.gz",
        sha256=store.add(tmp_path / "source"),
        size=3,
    )
    made = CompiledWheel(
        key="k",
        target=Target(cpu="znver4", options=[]),
        compiler="gcc",
        source=source,
        build=["libcuda1"],
        requires=[],
        tests=[],
        result="",
    )
    dummy = dummy_packages.make(store, "libcuda1", "535", "amd64")

    def fetch(wheel: PyFile) -> bool:
        """Whether the dummy is there once the lock's files are fetched."""
        store.path(dummy.sha256).unlink(missing_ok=True)
        lock = sample(
            packages={},
            toolchain={"libcuda1": Package.of(dummy)},
            frameworks=[
                Framework(
                    name="demo",
                    version="1.0",
                    environment="demo",
                    origin=Origin.SOURCE,
                    why="",
                    gain=None,
                    measured_on=None,
                    wheel=wheel,
                    requires=[],
                    made=made,
                    allow=[],
                )
            ],
        )
        sample_inputs.of_lock(lock, store).fetch()
        return store.check(dummy.sha256)

    assert fetch(source.model_copy(update={"sha256": "1" * 64})), "the wheel is lacking"
    assert not fetch(source), "the wheel is there"
