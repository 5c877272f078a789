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
from goldenami.image.security import components, sbom
from goldenami.image.security.components import SourcePackage
from goldenami.image.security.sbom import Spec
from goldenami.local.tree import read_facts
from goldenami.model.builds.part_facts import PARTS_FILE
from goldenami.packages.store import Store
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


COPYRIGHT = "Format: https://x.example/copyright-format/1.0/\n\nFiles: *\nLicense: {}\n text\n"
STATUS = """Package: bash
Status: install ok installed
Maintainer: Ada Lovelace <ada@example.org>
Pre-Depends: libc6 (>= 2.36)
Depends: debianutils (>= 5) | nothing, editor, python3:any, gone | absent
Version: 1

Package: libc6
Status: install ok installed
Maintainer: "GNU Libc" <libc@example.org>
Version: 1

Package: nano
Status: install ok installed
Provides: editor (= 1), other
Version: 1

Package: python3
Status: install ok installed
Version: 1

Package: debianutils
Status: install ok installed
Version: 1

Package: gone
Status: deinstall ok config-files
Version: 1
"""
METADATA = "Metadata-Version: 2.4\nName: {}\nVersion: {}\n{}\n"


def tree(root: Path, lock: Any) -> Path:
    """A tree with some packages and the wheels of a lock."""
    doc = root / "usr/share/doc"
    for name, licence in (("glibc2.36", "GPL-3+"), ("debianutils", "GPL-2+ and Expat"), ("nano", "odd thing")):
        (doc / name).mkdir(parents=True)
        (doc / name / "copyright").write_text(COPYRIGHT.format(licence), encoding="utf-8")
    (doc / "python3").mkdir()
    (doc / "python3/copyright").write_text("It is all under the GPL.\n", encoding="utf-8")
    (doc / "libc6").symlink_to("glibc2.36")
    (doc / "bash").mkdir()
    (doc / "bash/copyright").symlink_to("../glibc2.36/copyright")
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS, encoding="utf-8")
    for home, files in lock.environments().items():
        for file in files:
            info = root / f"opt/ml/{home}/lib/python3.13/site-packages/{file.project.replace('-', '_')}-1.dist-info"
            info.mkdir(parents=True)
            (info / "RECORD").touch()
            more = "License-Expression: BSD-3-Clause\nAuthor-email: Team <t@example.org>\n" if file.project != "torch" \
                else "License: MIT\nRequires-Dist: NumPy>1; python_version >= '3.10'\nRequires-Dist: absent\n" \
                "Requires-Dist: (odd\nRequires-Dist: sympy; extra == 'x'\nRequires-Dist: jinja2; python_version < '3'\n"
            (info / "METADATA").write_text(METADATA.format(file.project, file.version, more), encoding="utf-8")
    return root


def test_what_the_tree_says_of_its_parts_is_in_valid_bills(tmp_path: Path, store: Store) -> None:
    lock = materials.committed("debian-13-ml")
    materials.stock(store, lock)
    build = materials.build(tmp_path, lock)
    before = {spec: sbom.text(components.of_build(build, lock, store), spec) for spec in Spec}
    assert '"licenses"' not in before[Spec.CYCLONEDX_1_6], "an older build renders without"
    facts = read_facts.gather(tree(tmp_path / "tree", lock))
    assert read_facts.gather(tmp_path / "tree") == facts
    records.write(build.path / PARTS_FILE, facts)
    found = components.of_build(build, lock, store)
    texts = {spec: sbom.text(found, spec) for spec in Spec}
    assert schema_error(texts[Spec.CYCLONEDX_1_6], SchemaVersion.V1_6) == ""
    assert schema_error(texts[Spec.CYCLONEDX_1_5], SchemaVersion.V1_5) == ""
    (tmp_path / "x.spdx.json").write_text(texts[Spec.SPDX_2_3], encoding="utf-8")
    document = parse_file(str(tmp_path / "x.spdx.json"))
    assert [message.validation_message for message in validate_full_spdx_document(document)] == []
    parts = by_name(texts[Spec.CYCLONEDX_1_6])
    bash, needs = parts["bash"], json.loads(texts[Spec.CYCLONEDX_1_6])["dependencies"]
    assert bash["licenses"] == [{"expression": "GPL-3.0-or-later"}] == parts["libc6"]["licenses"]
    assert parts["nano"]["licenses"] == [{"expression": "LicenseRef-odd-thing"}]
    assert "licenses" not in parts["python3"], "prose is not guessed"
    assert (bash["supplier"], parts["libc6"]["supplier"]) == ({"name": "Ada Lovelace"}, {"name": "GNU Libc"})
    by_ref = {row["ref"]: row["dependsOn"] for row in needs}
    names = {part["bom-ref"]: part["name"] for part in parts.values()}
    assert {names[ref] for ref in by_ref[bash["bom-ref"]]} == {"libc6", "debianutils", "nano", "python3"}
    assert [names[ref] for ref in by_ref[parts["torch"]["bom-ref"]]] == ["numpy"]
    assert parts["torch"]["licenses"] == [{"expression": "MIT"}]
    spdx = json.loads(texts[Spec.SPDX_2_3])
    declared = {one["name"]: one["licenseDeclared"] for one in spdx["packages"]}
    assert (declared["debianutils"], declared["python3"]) == ("GPL-2.0-or-later AND MIT", "NOASSERTION")
    assert sum(row["relationshipType"] == "DEPENDS_ON" for row in spdx["relationships"]) == 5
    (build.path / PARTS_FILE).unlink()
    assert {spec: sbom.text(components.of_build(build, lock, store), spec) for spec in Spec} == before


@pytest.mark.parametrize(("names", "said"), [
    (["GPL-2+", "Expat", "GPL-2+"], "GPL-2.0-or-later AND MIT"), (["LGPL-2.1"], "LGPL-2.1-only"),
    (["GPL-1+ or Artistic, and Expat"], "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND MIT"),
    (["BSD-3-clause or GPL-2"], "(BSD-3-Clause OR GPL-2.0-only)"), (["Apache-2.0 and/or MIT"], "(Apache-2.0 OR MIT)"),
    (["GPL-3+ with Bison exception"], "LicenseRef-GPL-3-plus-with-Bison-exception"), (["GPL-2.0+"], "GPL-2.0-or-later"),
    (["MIT OR Apache-2.0"], "(MIT OR Apache-2.0)"), (["MIT AND (ISC OR 0BSD)"], "(MIT AND (ISC OR 0BSD))"),
    (["Apache-2.0 WITH LLVM-exception"], "Apache-2.0 WITH LLVM-exception"),
 (["", "public-domain"], "LicenseRef-public-domain"), ([], ""),
    (["NVIDIA Proprietary"], "LicenseRef-NVIDIA-Proprietary"), (["???"], "LicenseRef-other"),
])
def test_licences_are_expressions_of_spdx(names: list[str], said: str) -> None:
    assert read_facts.expression(names) == said
