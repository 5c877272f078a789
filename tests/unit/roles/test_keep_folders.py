"""golden_keep: which folders are kept, whose they are, and which files can be copied."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_keep.folders import Folder, folders, is_segment
from golden_keep.scan import scan
from support.loopback import Loopback, QuietHandler

ME = os.getuid() or 1500


class _Tags(QuietHandler):
    """A metadata service that knows one tag."""

    tag: str | None

    def do_PUT(self) -> None:
        self.answer(200, b"token")

    def do_GET(self) -> None:
        if self.tag is None or self.path != "/latest/meta-data/tags/instance/Owner":
            self.answer(404)
        else:
            self.answer(200, self.tag.encode())


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Tags]]:
    handler = type("Tags", (_Tags,), {"tag": None})
    with Loopback(handler) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        yield handler


def machine(root: Path, *lines: str) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("\n".join([*lines, "", "broken"]), encoding="utf-8")
    return root


def own(path: Path, uid: int = ME) -> Path:
    path.mkdir(parents=True)
    os.chown(path, uid, -1)
    return path


def test_a_person_s_folder_in_the_home_and_a_service_s_below_keep(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "root:x:0:0::/root:/bin/sh",
        f"ann:x:{ME}:7::/people/ann:/bin/sh",
        f"service:x:{ME}:7::/nonexistent:/bin/false",
    )
    home, service = own(root / "people/ann/keep"), own(root / "keep/service")
    own(root / "root/keep", os.getuid())
    assert folders(root) == [Folder(ME, 7, home, "ann"), Folder(ME, 7, service, "service")]


def test_a_link_and_a_folder_of_somebody_else_are_not_kept(tmp_path: Path) -> None:
    root = machine(tmp_path, f"ann:x:{ME}:7::/people/ann:", f"bob:x:{ME + 1}:7::/people/bob:")
    (root / "people/ann").mkdir(parents=True)
    (root / "people/ann/keep").symlink_to(root / "etc")
    own(root / "people/bob/keep")
    assert folders(root) == []


@pytest.mark.parametrize(
    ("tag", "owner"),
    [
        ("ann@example.org", "ann@example.org"),
        (None, "admin"),
        *((bad, "admin") for bad in ("../bob", "..", "", "x" * 129, ".golden-keep", "a\tb")),
    ],
)
def test_the_first_login_s_owner_is_the_tag_if_it_is_a_name(
    tag: str | None,
    owner: str,
    tags: type[_Tags],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tags.tag = tag
    root = machine(tmp_path, "admin:x:1000:1000::/home/admin:")
    if os.getuid() not in (0, 1000):
        pytest.skip("only root and user 1000 can make a folder of user 1000")
    own(root / "home/admin/keep", 1000)
    assert [each.owner for each in folders(root)] == [owner]
    refused = tag is not None and tag != owner
    assert ("is no name of a folder: admin is used" in capfd.readouterr().err) == refused


def test_an_owner_is_unknown_while_nobody_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    if os.getuid() not in (0, 1000):
        pytest.skip("only root and user 1000 can make a folder of user 1000")
    root = machine(tmp_path, "ubuntu:x:1000:1000::/home/ubuntu:")
    own(root / "home/ubuntu/keep", 1000)
    assert [each.owner for each in folders(root)] == [""]
    assert not is_segment("")


def test_what_is_no_file_or_has_no_name_for_a_bucket_is_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_bytes(b"12345")
    (tmp_path / "new\nline").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder-link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    here = Path.cwd()
    os.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    os.chdir(here)
    (tmp_path / os.fsdecode(b"bad\xff")).touch()
    (tmp_path / ("x" * 200)).touch()
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(6 << 40)
    (tmp_path / ".golden-keep").mkdir()
    (tmp_path / ".golden-keep/index.sqlite").touch()
    files, left_out = scan(tmp_path, "p" * 900)
    assert sorted(files) == ["new\nline", "sub/file"]
    assert files["sub/file"].size == 5
    assert left_out == {
        "link": "a link",
        "folder-link": "a link",
        "pipe": "a pipe",
        "socket": "a socket",
        os.fsdecode(b"bad\xff"): "its name is no UTF-8",
        "x" * 200: "its path is longer than 124 bytes",
        "sparse": "larger than 5 TiB",
    }
