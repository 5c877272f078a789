"""Bills of materials of the committed locks: valid, the same twice, equal to the tree, with names scanners know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from goldenami import cli
from goldenami.core import records
from goldenami.core.errors import BadInput, NotVerified
from goldenami.model.trim_records import RemovedFiles, Trimmed, TrimmedProgram
from goldenami.packages.store import Store
from goldenami.security import components, sbom
from goldenami.security.components import SourcePackage
from goldenami.security.sbom import Spec
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from support.builds.checkout import ROOT
from support.security import materials

IMAGES = ("debian-12-ml-frameworks", "debian-13-ml")
"""One with compiled wheels, one with a driver and CUDA's wheels."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def bills(tmp_path: Path, store: Store, image: str) -> dict[Spec, str]:
    lock = materials.committed(image)
    materials.stock(store, lock)
    found = components.of_build(materials.build(tmp_path, lock), lock, store)
    return {spec: sbom.text(found, spec) for spec in Spec}


def schema_error(text: str, version: SchemaVersion) -> str:
    error = JsonStrictValidator(version).validate_str(text)
    return str(error.data) if error else ""


@pytest.mark.parametrize("image", IMAGES)
def test_bills_are_valid(image: str, tmp_path: Path, store: Store) -> None:
    found = bills(tmp_path, store, image)
    assert schema_error(found[Spec.CYCLONEDX_1_6], SchemaVersion.V1_6) == ""
    assert schema_error(found[Spec.CYCLONEDX_1_5], SchemaVersion.V1_5) == ""
    (tmp_path / "x.spdx.json").write_text(found[Spec.SPDX_2_3], encoding="utf-8")
    document = parse_file(str(tmp_path / "x.spdx.json"))
    assert [message.validation_message for message in validate_full_spdx_document(document)] == []


def test_validators_would_notice(tmp_path: Path, store: Store) -> None:
    bill = json.loads(bills(tmp_path, store, IMAGES[0])[Spec.CYCLONEDX_1_6])
    bill["components"][3]["hashes"][0]["content"] = "12"
    assert "does not match" in schema_error(json.dumps(bill), SchemaVersion.V1_6)


@pytest.mark.parametrize("image", IMAGES)
def test_a_build_has_one_bill_to_the_byte(image: str, tmp_path: Path, store: Store) -> None:
    first = bills(tmp_path / "a", store, image)
    assert bills(tmp_path / "b", store, image) == first
    other = materials.committed(image).model_copy(update={"source_date_epoch": 5})
    again = sbom.text(components.of_build(materials.build(tmp_path, other), other, store), Spec.CYCLONEDX_1_6)
    assert json.loads(again)["serialNumber"] != json.loads(first[Spec.CYCLONEDX_1_6])["serialNumber"]


def by_name(text: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(text)["components"]}


def test_names_are_those_that_scanners_know(tmp_path: Path, store: Store) -> None:
    lock = materials.committed("debian-13-ml")
    said = {"bash": "bash (5.2-2)", lock.kernel.package: "linux-signed-amd64 (6.12.1+1)", "libc6": "glibc"}
    materials.stock(store, lock, lambda name: said.get(name, ""))
    build = materials.build(tmp_path, lock)
    parts = {part.name: part for part in components.of_build(build, lock, store).parts}
    bash = PackageURL.from_string(parts["bash"].purl)
    assert (bash.type, bash.namespace, bash.name, bash.version) == (
        "deb", "debian", "bash", lock.packages["bash"].version)
    assert bash.qualifiers == {"arch": "amd64", "distro": "debian-13", "upstream": "bash@5.2-2"}
    assert PackageURL.from_string(parts["libc6"].purl).qualifiers == {
        "arch": "amd64", "distro": "debian-13", "upstream": "glibc"}
    assert parts[lock.kernel.package].source == SourcePackage("linux", lock.kernel.version)
    grub = PackageURL.from_string(parts["grub-pc-bin"].purl)
    assert (grub.namespace, grub.version, grub.qualifiers) == (
        "ubuntu", "2.12-1ubuntu7", {"arch": "amd64", "distro": "ubuntu-24.04", "upstream": "grub2"})
    assert parts["torch"].purl == f"pkg:pypi/torch@{parts['torch'].version}"
    for part in parts.values():
        assert PackageURL.from_string(part.purl).to_string().lower() == part.purl.lower(), part.purl


def test_what_was_compiled_says_what_from(tmp_path: Path, store: Store) -> None:
    wheels = by_name(bills(tmp_path, store, IMAGES[0])[Spec.CYCLONEDX_1_6])
    made = next(one for one in materials.committed(IMAGES[0]).frameworks if one.name == "numpy").made
    assert made is not None
    source = wheels["numpy"]["pedigree"]["ancestors"][0]
    assert source["hashes"] == [{"alg": "SHA-256", "content": made.source.sha256}]
    lock = materials.committed(IMAGES[1])
    assert lock.driver and lock.driver.modules
    modules = by_name(bills(tmp_path, store, IMAGES[1])[Spec.CYCLONEDX_1_6])[lock.driver.modules.package]
    assert modules["pedigree"]["ancestors"][0]["name"] == lock.driver.modules.source_package
    assert f":gpu_display_driver:{lock.driver.version}:" in modules["cpe"]


def test_a_wheel_that_was_trimmed_says_what_went(tmp_path: Path, store: Store) -> None:
    lock = materials.committed("debian-13-ml")
    materials.stock(store, lock)
    build = materials.build(tmp_path, lock)
    wheel = next(file for files in lock.environments().values() for file in files if file.project == "nvidia-nccl-cu12")
    name = f"nvidia_nccl_cu12-{wheel.version}"
    program = TrimmedProgram(path="ml/libnccl.so.2", wheel=name, bytes=1, was="sha256=a", now="sha256=b",
                             architectures=["50", "90"])
    removed = RemovedFiles(wheel=name, reason="test_suites", files=3, bytes=9)
    trimmed = Trimmed(architectures=["86"], gpu_code=[program], removed=[removed], linked=[])
    records.write(build.bake, build.read_bake().model_copy(update={"trimmed": trimmed}))
    found = {spec: sbom.text(components.of_build(build, lock, store), spec) for spec in Spec}
    code = "ml/libnccl.so.2: without machine code of sm_50, sm_90; sha256=a is sha256=b"
    values = [one["value"] for one in by_name(found[Spec.CYCLONEDX_1_6])["nvidia-nccl-cu12"]["properties"]]
    assert {code, "without 3 files (test_suites)"} <= set(values)
    assert code in found[Spec.SPDX_2_3]
    assert sum(text.count(code) for text in found.values()) == len(Spec)


def test_a_bill_is_what_the_tree_holds(tmp_path: Path, store: Store) -> None:
    lock = materials.committed(IMAGES[0])
    assert materials.PURGED in lock.packages
    materials.stock(store, lock)
    names = {part.name for part in components.of_build(materials.build(tmp_path, lock), lock, store).parts}
    assert lock.packages.keys() - names == {materials.PURGED}
    for path, said in (("/var/lib/dpkg/info/telnetd.list", "package telnetd is in the image alone"),
                       ("/opt/ml/numpy/lib/python3.11/site-packages/odd_one-1.0.dist-info/METADATA",
                        "wheel numpy odd-one 1.0 is in the image alone")):
        with pytest.raises(NotVerified, match=said):
            components.of_build(materials.build(tmp_path, lock, [*materials.listed(lock), path]), lock, store)
    without = [path for path in materials.listed(lock) if "/hnswlib-" not in path]
    with pytest.raises(NotVerified, match=r"wheel \S+ hnswlib \S+ is in the lock alone"):
        components.of_build(materials.build(tmp_path, lock, without), lock, store)


def test_a_package_that_is_not_here_is_named(tmp_path: Path, store: Store) -> None:
    lock = materials.committed(IMAGES[0])
    materials.stock(store, lock)
    (store.cache.control / lock.packages["bash"].sha256).unlink()
    with pytest.raises(BadInput, match=r"the store has no bash_\S+\.deb"):
        components.of_build(materials.build(tmp_path, lock), lock, store)


def test_the_command_writes_both_and_prints_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "cache"))
    shutil.copytree(ROOT / "packer", tmp_path / "packer")
    lock = materials.committed(IMAGES[0])
    assert cli.main(["--root", str(tmp_path), "sbom", lock.image]) == 2
    assert "is not baked" in capsys.readouterr().err
    materials.stock(Store(tmp_path / "cache"), lock)
    build = materials.build(tmp_path, lock)
    assert cli.main(["--root", str(tmp_path), "sbom", lock.image]) == 0
    assert capsys.readouterr().out.split() == [str(build.path / name) for name in sbom.KEPT.values()]
    assert cli.main(["--root", str(tmp_path), "sbom", lock.image, "--spec", "cyclonedx-1.5"]) == 0
    assert schema_error(capsys.readouterr().out, SchemaVersion.V1_5) == ""
