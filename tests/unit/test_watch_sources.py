from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from goldenami.core.errors import Unreachable
from goldenami.model.builds.lockfile import Package
from goldenami.model.definitions.update_policy import BranchType
from goldenami.packages.http_documents import Document
from goldenami.watch.sources import branches, index_versions, packages
from goldenami.watch.sources.packages import WatchedComponent


def listing(**rows: object) -> Document:
    return Document(json.dumps({name.removeprefix("b"): row
                                for name, row in rows.items()}).encode(), None)


def branch(kind: str, *releases: str, **more: object) -> dict[str, object]:
    return {"type": kind, "driver_info": [
        {"release_version": version, "release_date": day, "architectures": ["x86_64", "sbsa"],
         "release_notes": "x"}
        for version, day in (release.split("@") for release in releases)], **more}


GOOD = listing(b535=branch("lts branch", "535.261.03@2025-07-17", "535.309.01@2026-05-20"),
               b580=branch("lts branch", "580.95.05@2025-09-30"),
               b575=branch("new feature branch", "575.64@2025-07-01"))


def test_nvidias_list() -> None:
    found = branches.parse(GOOD, "list")
    assert found.types == {"535": BranchType.LTS, "580": BranchType.LTS,
                           "575": BranchType.NEW_FEATURE}
    assert found.released["535.309.01"] == date(2026, 5, 20)
    assert [(source.name, source.changed, source.error) for source in found.statuses] == [
        ("NVIDIA releases.json", "2026-05-20", "")]


@pytest.mark.parametrize(("document", "said"), [
    (Document(GOOD.data[:-40], None), "list is not JSON: "),
    (Document(b"{}", None), "list is no list of driver branches"),
    (listing(b535={"type": "lts branch"}), "list: 535.driver_info: Field required"),
    (listing(b535=branch("best branch", "535.1@2025-01-01")), "list: 535.type: Input should be 'lts branch', "),
    (listing(b535=branch("lts branch")), "list: 535.driver_info: List should have at least 1 item"),
])
def test_a_list_that_is_none(document: Document, said: str) -> None:
    with pytest.raises(Unreachable) as caught:
        branches.parse(document, "list")
    assert caught.value.message.startswith(said)


def test_a_list_that_cannot_be_read_is_an_error_of_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(branches.VARIABLE, str(tmp_path / "no.json"))
    found = branches.look()
    assert found.types == {}
    assert found.statuses[0].error == f"{tmp_path}/no.json: No such file or directory"
    (tmp_path / "no.json").write_bytes(GOOD.data)
    assert branches.look().types


def test_a_branch_that_vanishes_from_the_list() -> None:
    found = branches.parse(listing(b580=branch("lts branch", "580.95.05@2025-09-30")), "list")
    said = [source.error for source in found.complaints("535")]
    assert said == ["branch 535, which the lock has, vanished from the list"]
    assert branches.Branches().complaints("535") == []


def page(*files: dict[str, object]) -> Document:
    return Document(json.dumps({"meta": {"api-version": "1.1"}, "files": list(files)}).encode(),
                    None)


def test_a_project_page_of_the_python_index() -> None:
    found = index_versions.parse(page(
        {"filename": "torch-2.9.0-cp311-cp311-manylinux_2_28_x86_64.whl",
         "upload-time": "2026-10-02T10:00:00Z"},
        {"filename": "torch-2.9.0.tar.gz", "upload-time": "2026-10-01T10:00:00.123456Z"},
        {"filename": "torch-2.10.0-cp311-cp311-manylinux_2_28_x86_64.whl"},
        {"filename": "torch-2.9.1-cp311-cp311-linux_x86_64.whl", "yanked": "broken"},
        {"filename": "torch-2.11.0rc1.tar.gz"}, {"filename": "torch.exe"},
        {"filename": "torch-x.tar.gz"},
    ), "page", "Python index: torch")
    assert [(offer.version, offer.branch, offer.released) for offer in found] == [
        ("2.9.0", "2.9", date(2026, 10, 1)), ("2.10.0", "2.10", None)]


@pytest.mark.parametrize("data", [b'{"files": 3}', b"[]", b"<html>"])
def test_a_page_that_is_none(data: bytes) -> None:
    with pytest.raises(Unreachable, match="page is no"):
        index_versions.parse(Document(data, None), "page", "x")


def test_the_index_is_the_one_that_locks_resolve_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    source, offers = index_versions.look("torch")
    assert (source.name, offers) == ("Python index: torch", [])
    assert "127.0.0.1:9/simple/torch/" in source.error
    monkeypatch.setenv("GOLDEN_MIRROR_PYPI", "http://127.0.0.1:9/mirror")
    assert "127.0.0.1:9/mirror/torch/" in index_versions.look("torch")[0].error


def test_the_component_of_a_source_package() -> None:
    package = Package(version="1", architecture="amd64", sha256="", size=1, installed_size=1,
                      origin="debian", path="",
                      source="")
    for source, component in {
        "linux-signed-amd64": WatchedComponent.KERNEL, "linux": WatchedComponent.KERNEL,
        "linux-aws": WatchedComponent.KERNEL, "linux-base": WatchedComponent.PACKAGES,
        "nvidia-graphics-drivers": WatchedComponent.DRIVER,
        "nvidia-graphics-drivers-tesla-535": WatchedComponent.DRIVER,
        "nvidia-cuda-toolkit": WatchedComponent.CUDA,
        "cuda-cudart-13-0": WatchedComponent.CUDA, "libcublas-13-0": WatchedComponent.CUDA,
        "libcurl4": WatchedComponent.PACKAGES, "openssl": WatchedComponent.PACKAGES,
    }.items():
        assert packages.component(package.model_copy(update={"source": source})) is component, (
            source
        )
