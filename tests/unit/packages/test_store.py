"""The package store: what enters it, what never becomes visible, what is damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import urllib3
from goldenami.core.errors import ExitCode, Replaced, Unreachable, Vanished
from goldenami.packages import download
from goldenami.packages.store import Store
from support.debian import debrepo
from support.debian.debrepo import Fault
from support.debian.store_process import assert_whole, objects, wanted


def test_a_file_is_fetched_once(tmp_path: Path, served: debrepo.Mirror) -> None:
    kept, items, counted = Store(tmp_path / "cache"), wanted(served), list[int]()
    assert kept.fetch(items * 2, counted.append) == sum(item.size for item in items) == sum(counted)
    assert_whole(tmp_path / "cache", items)
    assert kept.fetch(items) == 0
    assert len(served.requests) == len(items)
    assert kept.missing(items) == []


def test_a_body_that_breaks_off_is_asked_for_again(tmp_path: Path, served: debrepo.Mirror) -> None:
    served.faults, served.ranges = {"/00": Fault.TRUNCATED}, False
    with pytest.raises(Unreachable, match=r"/00: .*bytes read"):
        Store(tmp_path / "cache").fetch(wanted(served, "00"))
    assert served.requests.count("/00") == download.BODY_TRIES
    assert Store(tmp_path / "cache").objects() == []


@pytest.mark.parametrize(
    ("fault", "kind", "complaint"),
    [
        (Fault.LOST, Vanished, "05 is no longer at http://127.0.0.1"),
        (Fault.BROKEN, Unreachable, "/05 answered 503"),
        (Fault.CORRUPTED, Replaced, "/05: 1005 bytes with SHA-256 "),
        (Fault.HANG, Unreachable, "/05: "),
        (Fault.STALLED, Unreachable, "/05: "),
    ],
)
def test_what_was_not_served_properly_is_never_visible(
    tmp_path: Path,
    served: debrepo.Mirror,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    kind: type[Unreachable],
    complaint: str,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", urllib3.Timeout(0.2))
    served.faults = {"/05": fault}
    items = wanted(served, "04", "05")
    with pytest.raises(Unreachable) as caught:
        Store(tmp_path / "cache").fetch(items)
    assert type(caught.value) is kind
    assert complaint in caught.value.message
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert items[1].sha256 not in [path.name for path in objects(tmp_path / "cache")]
    served.faults = {}
    Store(tmp_path / "cache").fetch(items)
    assert_whole(tmp_path / "cache", items)


def test_vanished_files_are_counted_and_a_dead_mirror_outranks_them(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    served.faults = {"/0*": Fault.LOST}
    with pytest.raises(Vanished, match=r"\(and 9 more files\)"):
        Store(tmp_path / "cache").fetch(wanted(served))
    served.faults = {"/00": Fault.LOST, "/01": Fault.CORRUPTED}
    with pytest.raises(Unreachable, match="/01: ") as caught:
        Store(tmp_path / "cache").fetch(wanted(served, "00", "01"))
    assert type(caught.value) is Replaced


def test_a_mirror_that_is_down_is_not_asked_for_every_file(
    tmp_path: Path, served: debrepo.Mirror
) -> None:
    served.faults = {"*": Fault.BROKEN}
    with pytest.raises(Unreachable, match="answered 503"):
        Store(tmp_path / "cache").fetch(wanted(served))
    assert len(set(served.requests)) < len(list(served.folder.iterdir()))


def test_a_local_file_is_added_under_its_digest(tmp_path: Path) -> None:
    kept = Store(tmp_path / "cache")
    (tmp_path / "x.deb").write_bytes(b"content")
    digest = kept.add(tmp_path / "x.deb")
    assert kept.add(tmp_path / "x.deb") == digest == hashlib.sha256(b"content").hexdigest()
    assert kept.has(digest, 7)
    assert not kept.has(digest, 8)
    kept.path(digest).write_bytes(b"damaged"[:7])
    assert kept.add(tmp_path / "x.deb") == digest
    assert kept.path(digest).read_bytes() == b"content"
