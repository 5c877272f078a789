from __future__ import annotations

import json
from datetime import date

import pytest
from goldenami.core.errors import Unreachable
from goldenami.model.locked.lockfile import Package
from goldenami.packages.http_documents import Document
from goldenami.watch.sources import index_versions, packages
from goldenami.watch.sources.packages import WatchedComponent


def page(*files: dict[str, object]) -> Document:
    return Document(
        json.dumps({"meta": {"api-version": "1.1"}, "files": list(files)}).encode(), None
    )


def test_a_project_page_of_the_python_index() -> None:
    found = index_versions.parse(
        page(
            {
                "filename": "torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl",
                "upload-time": "2026-10-02T10:00:00Z",
            },
            {"filename": "torch-2.9.0.tar.gz", "upload-time": "2026-10-01T10:00:00.123456Z"},
            {"filename": "torch-2.10.0-cp311-cp311-manylinux_2_28_x86_64.whl"},
            {"filename": "torch-2.9.1-cp311-cp311-linux_x86_64.whl", "yanked": "broken"},
            {"filename": "torch-2.11.0rc1.tar.gz"},
            {"filename": "torch.exe"},
            {"filename": "torch-x.tar.gz"},
        ),
        "page",
        "Python index: torch",
    )
    assert [(offer.version, offer.branch, offer.released) for offer in found] == [
        ("2.9.0", "2.9", date(2026, 10, 1)),
        ("2.10.0", "2.10", None),
    ]


@pytest.mark.parametrize("data", [b'{"files": 3}', b"[]", b"<html>"])
def test_a_page_that_is_none(data: bytes) -> None:
    with pytest.raises(Unreachable, match="page is no"):
        index_versions.parse(Document(data, None), "page", "x")


def test_the_index_is_the_one_that_locks_resolve_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    source, offers = index_versions.read_versions("torch")
    assert (source.name, offers) == ("Python index: torch", [])
    assert "127.0.0.1:9/simple/torch/" in source.error
    monkeypatch.setenv("GOLDEN_MIRROR_PYPI", "http://127.0.0.1:9/mirror")
    assert "127.0.0.1:9/mirror/torch/" in index_versions.read_versions("torch")[0].error


def test_the_component_of_a_source_package() -> None:
    package = Package(
        version="1",
        architecture="amd64",
        sha256="",
        size=1,
        installed_size=1,
        origin="debian",
        path="",
        source="",
    )
    for source, component in {
        "linux-signed-amd64": WatchedComponent.KERNEL,
        "linux": WatchedComponent.KERNEL,
        "linux-aws": WatchedComponent.KERNEL,
        "linux-base": WatchedComponent.PACKAGES,
        "nvidia-graphics-drivers": WatchedComponent.DRIVER,
        "nvidia-graphics-drivers-tesla-535": WatchedComponent.DRIVER,
        "nvidia-cuda-toolkit": WatchedComponent.CUDA,
        "cuda-cudart-13-0": WatchedComponent.CUDA,
        "libcublas-13-0": WatchedComponent.CUDA,
        "libcurl4": WatchedComponent.PACKAGES,
        "openssl": WatchedComponent.PACKAGES,
    }.items():
        assert packages.component(package.model_copy(update={"source": source})) is component, (
            source
        )
