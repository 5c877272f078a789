from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.local.kernel import dkms_source
from support.debian import debrepo, dkms_sources
from support.debian.debrepo import Package

FILES = dkms_sources.files()


def saved(folder: Path, data: bytes) -> Path:
    """`data` without a name that says what it is, as the store has it."""
    path = folder / "object"
    path.write_bytes(data)
    return path


def packaged(folder: Path, content: dict[str, str]) -> Path:
    files = {f"usr/src/golden-agent-1.2/{name}": text for name, text in content.items()}
    return debrepo.build(Package("golden-agent-dkms", "1.2-3", files=files), folder / "object")


@pytest.mark.parametrize("folder", ["", "./", "vendor-kit/driver/"])
def test_a_tarball_goes_where_dkms_looks(tmp_path: Path, folder: str) -> None:
    source = saved(tmp_path, dkms_sources.tarball(FILES, folder))
    assert dkms_source.unpack(source, tmp_path / "root") == ("golden-agent", "1.2")
    there = tmp_path / "root/usr/src/golden-agent-1.2"
    assert {path.name for path in there.iterdir()} == FILES.keys()


def test_a_package_has_it_there_already(tmp_path: Path) -> None:
    assert dkms_source.unpack(packaged(tmp_path, FILES), tmp_path / "root") == (
        "golden-agent",
        "1.2",
    )
    assert (tmp_path / "root/usr/src/golden-agent-1.2/dkms.conf").is_file()


def without(line: str, instead: str = "") -> dict[str, str]:
    assert line in FILES["dkms.conf"]
    return {**FILES, "dkms.conf": FILES["dkms.conf"].replace(line, instead)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"Makefile": "obj-m := a.o\n"}, "has no dkms.conf"),
        (without('PACKAGE_NAME="golden-agent"'), "dkms.conf: PACKAGE_NAME is missing"),
        (without('"golden-agent"', '"../agent"'), "dkms.conf: PACKAGE_NAME is `../agent`"),
        (
            without('PACKAGE_VERSION="1.2"', "PACKAGE_VERSION=#MODULE_VERSION#"),
            "dkms.conf: PACKAGE_VERSION is ``",
        ),
        (without('"1.2"', '"@VERSION@"'), "dkms.conf: PACKAGE_VERSION is `@VERSION@`"),
    ],
)
def test_what_is_no_source(tmp_path: Path, content: dict[str, str], said: str) -> None:
    for source in (saved(tmp_path, dkms_sources.tarball(content)), packaged(tmp_path, content)):
        with pytest.raises(BadInput) as caught:
            dkms_source.unpack(source, tmp_path / "root")
        assert caught.value.message == said


def test_what_is_no_tarball_or_leaves_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no package and no tarball"):
        dkms_source.unpack(saved(tmp_path, b"<html>not found</html>"), tmp_path / "root")
    whole = dkms_sources.tarball(FILES)
    with pytest.raises(BadInput, match="is no package and no tarball"):
        dkms_source.unpack(saved(tmp_path, whole[: len(whole) // 2]), tmp_path / "root")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../../escaped"))
    with pytest.raises(BadInput, match="outside the destination"):
        dkms_source.unpack(saved(tmp_path, data.getvalue()), tmp_path / "root")
    assert not (tmp_path / "escaped").exists()
