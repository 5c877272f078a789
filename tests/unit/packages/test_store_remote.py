"""A remote store behind the local one, and what nothing names."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from goldenami.core.errors import Busy
from goldenami.packages.store import Store
from support.debian import debrepo
from support.debian.store_process import assert_whole, kill_halfway, wanted


class SharedFolder:
    """A remote store of plain files, that can be told to spoil what it gives."""

    def __init__(self, folder: Path, *, spoil: bool = False) -> None:
        self.folder, self.spoil, self.asked = folder, spoil, list[tuple[str, int]]()

    def get(self, sha256: str, start: int) -> Iterator[bytes] | None:
        self.asked.append((sha256, start))
        path = self.folder / sha256
        if not path.is_file():
            return None
        content = path.read_bytes()[start:]
        return iter([bytes(byte ^ 255 for byte in content) if self.spoil else content])

    def put(self, sha256: str, source: Path) -> bool:
        if (self.folder / sha256).is_file():
            return False
        (self.folder / sha256).write_bytes(source.read_bytes())
        return True


@pytest.fixture
def shared(tmp_path: Path, served: debrepo.Mirror) -> SharedFolder:
    """A remote store that has the files 00 and 01."""
    (tmp_path / "shared").mkdir()
    remote = SharedFolder(tmp_path / "shared")
    for item in wanted(served, "00", "01"):
        assert remote.put(item.sha256, served.folder / item.name)
    return remote


def test_the_remote_store_is_asked_before_the_mirror(
    tmp_path: Path,
    served: debrepo.Mirror,
    shared: SharedFolder,
) -> None:
    items = wanted(served, "00", "01", "02")
    Store(tmp_path / "cache", remote=shared).fetch(items)
    assert served.requests == ["/02"]
    assert_whole(tmp_path / "cache", items)


def test_what_the_remote_store_has_spoilt_comes_from_the_mirror(
    tmp_path: Path,
    served: debrepo.Mirror,
    shared: SharedFolder,
) -> None:
    shared.spoil = True
    items = wanted(served, "00")
    Store(tmp_path / "cache", remote=shared).fetch(items)
    assert served.requests == ["/00"]
    assert_whole(tmp_path / "cache", items)


def test_what_was_compiled_elsewhere_is_pulled(
    tmp_path: Path, served: debrepo.Mirror, shared: SharedFolder
) -> None:
    there, missing = wanted(served, "00", "02")
    kept = Store(tmp_path / "cache", remote=shared)
    kept.pull([there, missing])
    assert served.requests == []
    assert_whole(tmp_path / "cache", [there])
    shared.spoil = True
    kept.pull(wanted(served, "01"))
    assert_whole(tmp_path / "cache", [there])


def test_garbage_is_what_nothing_names(tmp_path: Path, served: debrepo.Mirror) -> None:
    item = kill_halfway(tmp_path / "cache", served)
    kept = Store(tmp_path / "cache")
    first, second = wanted(served, "00", "01")
    kept.fetch([first, second])
    found = kept.garbage([first.sha256])
    assert {path.name: size for path, size in found.items() if path.suffix != ".from"} == {
        second.sha256: second.size,
        f"{item.sha256}.part": item.size // 2,
    }


def test_nothing_is_deleted_under_another_process(tmp_path: Path) -> None:
    kept, other = Store(tmp_path / "cache"), Store(tmp_path / "cache")
    with pytest.raises(Busy, match="another process uses"), kept.alone():
        pass
    other.close()
    with kept.alone():
        pass
    Store(tmp_path / "cache").close()  # a lock that was not given back would hold this up for ever


def test_of_two_that_use_it_neither_is_ever_alone(tmp_path: Path) -> None:
    """Not in the moment, either, in which the other asks for it in vain."""

    def ask(store: Store) -> int:
        alone = 0
        for _ in range(2000):
            with suppress(Busy), store.alone():
                alone += 1
        return alone

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(ask, (Store(tmp_path), Store(tmp_path)))) == [0, 0]
