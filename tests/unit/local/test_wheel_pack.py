from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from goldenami.local.programs import wheel_pack


def wheel(path: Path, scratch: str) -> Path:
    """A wheel whose build installed into `scratch`."""
    with zipfile.ZipFile(path, "w") as sink:
        sink.writestr("demo/__init__.py", "")
        sink.writestr(
            "lib/pkgconfig/demo.pc", f"prefix={scratch}\nlibdir={scratch}/lib\n\nName: demo\n"
        )
        sink.writestr("demo-1.dist-info/RECORD", "")
    return path


def packed(path: Path) -> bytes:
    folder = path.with_suffix(".d")
    wheel_pack.unpack(path, folder)
    wheel_pack.pack(path, folder)
    return path.read_bytes()


def test_the_folder_of_a_build_is_not_in_its_wheel(tmp_path: Path) -> None:
    """pip lets a build install into a folder of a random name: two builds gave two wheels."""
    first, second = (
        packed(wheel(tmp_path / f"{name}.whl", f"/tmp/tmp{name}/wheel/platlib"))
        for name in ("a1", "b2")
    )
    assert first == second
    with zipfile.ZipFile(tmp_path / "a1.whl") as source:
        text = source.read("lib/pkgconfig/demo.pc").decode()
    assert text.splitlines()[:2] == ["prefix=${pcfiledir}/../..", "libdir=${pcfiledir}/../../lib"]


@pytest.mark.parametrize("prefix", ["/usr", "${pcfiledir}/../.."])
def test_another_prefix_is_left_alone(tmp_path: Path, prefix: str) -> None:
    packed(wheel(tmp_path / "demo.whl", prefix))
    with zipfile.ZipFile(tmp_path / "demo.whl") as source:
        assert f"prefix={prefix}\n" in source.read("lib/pkgconfig/demo.pc").decode()
