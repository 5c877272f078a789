"""Bills of materials of the committed locks: valid, the same twice, equal to the tree, with names
scanners know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from goldenami.core import records
from goldenami.core.errors import BadInput, NotVerified
from goldenami.image.sbom import components, sbom
from goldenami.image.sbom.components import ImagePart, SourcePackage
from goldenami.local.tree import read_facts
from goldenami.model.builds.part_facts import PARTS_FILE
from goldenami.model.locked.lockfile import KernelModules, Lock, Signature
from goldenami.packages.store import Store
from packageurl import PackageURL
from support.builds.checkout import ROOT
from support.security import materials

WHEELS, DRIVER = "debian-13-ml-frameworks", "debian-13-ml"
"""Images with compiled wheels, and with a driver and CUDA's wheels."""

WRITE = """
import sys
from pathlib import Path
from goldenami.core import records
from goldenami.image.sbom import sbom
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.locked.lockfile import Lock
from goldenami.packages.store import Store
lock, cache, build = map(Path, sys.argv[1:])
sbom.write_missing(BuildFolder(build), records.read(lock, Lock), Store(cache))
"""


class Baked:
    def __init__(self, root: Path, image: str, sources: Mapping[str, str] | None = None) -> None:
        self.root, self.lock, self.store = root, materials.committed(image), Store(root / "cache")
        materials.stock(self.store, self.lock, lambda name: (sources or {}).get(name, ""))
        self.build = materials.build(root, self.lock)

    def parts(self) -> dict[str, ImagePart]:
        found = components.of_build(self.build, self.lock, self.store)
        return {part.name: part for part in found.parts}

    def text(self) -> str:
        return sbom.text(components.of_build(self.build, self.lock, self.store))

    @property
    def bill(self) -> Path:
        return self.build.path / sbom.SBOM_FILE

    def written(self, seed: int) -> str:
        """The bill as a process writes it whose sets have an order of their own for each `seed`."""
        self.bill.unlink(missing_ok=True)
        records.write(self.root / "lock.json", self.lock)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "scripts"),
            "PYTHONHASHSEED": str(seed),
        }
        paths = (self.root / "lock.json", self.root / "cache", self.build.path)
        argv = [sys.executable, "-c", WRITE, *map(str, paths)]
        subprocess.run(argv, check=True, env=environment)
        return self.bill.read_text(encoding="utf-8")


@pytest.fixture
def baked(tmp_path: Path) -> Baked:
    return Baked(tmp_path, WHEELS)


@pytest.fixture
def driven(tmp_path: Path) -> Baked:
    return Baked(tmp_path, DRIVER)


def faults(text: str) -> str:
    return str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) or "")


def by_name(text: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(text)["components"]}


def test_a_build_has_one_bill_the_same_each_time(baked: Baked, tmp_path: Path) -> None:
    text = baked.written(seed=1)
    assert baked.written(seed=2) == baked.text() == text
    assert faults(text) == ""
    bill = json.loads(text)
    assert bill["compositions"] == [{"aggregate": "complete", "assemblies": ["image"]}]
    baked.lock = baked.lock.model_copy(update={"source_date_epoch": 5})
    baked.build = materials.build(tmp_path, baked.lock)
    other = json.loads(baked.text())
    assert other["metadata"]["timestamp"] == "1970-01-01T00:00:05+00:00"
    assert other["serialNumber"] != bill["serialNumber"]
    wrong = text.replace(bill["components"][3]["hashes"][0]["content"], "12")
    assert "does not match" in faults(wrong)


def test_a_bake_leaves_a_bill_that_may_be_signed(baked: Baked) -> None:
    sbom.write_missing(baked.build, baked.lock, baked.store)
    baked.bill.write_text("signed", encoding="utf-8")
    sbom.write_missing(baked.build, baked.lock, baked.store)
    assert baked.bill.read_text(encoding="utf-8") == "signed"
    baked.bill.unlink()
    sbom.write_missing(baked.build, baked.lock, baked.store)
    assert baked.bill.read_text(encoding="utf-8") == baked.text()


def test_names_are_those_that_scanners_know(tmp_path: Path) -> None:
    kernel = materials.committed(DRIVER).kernel
    baked = Baked(
        tmp_path,
        DRIVER,
        {"bash": "bash (5.2-2)", kernel.package: "linux-signed-amd64 (6.12.1+1)", "libc6": "glibc"},
    )
    parts = baked.parts()
    urls = {name: PackageURL.from_string(part.purl) for name, part in parts.items()}
    version = baked.lock.packages["bash"].version
    assert urls["bash"] == PackageURL(
        "deb",
        "debian",
        "bash",
        version,
        {"arch": "amd64", "distro": "debian-13", "upstream": "bash@5.2-2"},
    )
    assert urls["libc6"].qualifiers == {"arch": "amd64", "distro": "debian-13", "upstream": "glibc"}
    assert parts[kernel.package].source == SourcePackage("linux", kernel.version)
    assert urls["grub-pc-bin"] == PackageURL(
        "deb",
        "ubuntu",
        "grub-pc-bin",
        "2.12-1ubuntu7",
        {"arch": "amd64", "distro": "ubuntu-24.04", "upstream": "grub2"},
    )
    assert urls["torch"] == PackageURL("pypi", None, "torch", parts["torch"].version)


def test_what_was_compiled_says_what_from(baked: Baked, tmp_path: Path) -> None:
    numpy = by_name(baked.text())["numpy"]
    made = next(one for one in baked.lock.frameworks if one.name == "numpy").made
    assert made is not None
    [source] = numpy["pedigree"]["ancestors"]
    assert source["hashes"] == [{"alg": "SHA-256", "content": made.source.sha256}]
    driven = Baked(tmp_path / "driver", DRIVER)
    driver = driven.lock.driver
    assert driver and driver.modules
    modules = by_name(driven.text())[driver.modules.package]
    assert modules["pedigree"]["ancestors"][0]["name"] == driver.modules.source_package
    assert f":gpu_display_driver:{driver.version}:" in modules["cpe"]


def test_modules_of_somebody_s_own_name_their_source(baked: Baked) -> None:
    lock, names = baked.lock, [f"golden-{name}-modules-6" for name in ("agent", "card")]
    built = lock.packages["bash"].model_copy(
        update={"origin": "built", "version": "1.2-1", "sha256": "b" * 64}
    )
    tarball = built.model_copy(
        update={"origin": "https://localhost/files", "path": "card.tgz", "version": "1.2"}
    )
    made = {
        name: KernelModules(
            key="0" * 64,
            package=package,
            source_package="source",
            compiler="gcc 14",
            provides=[],
            depends=[],
            build={"source": source},
            signature=Signature(signer="Me", certificate_sha256="0" * 64),
        )
        for name, package, source in zip(
            ("agent", "card"), names, (lock.packages["less"], tarball), strict=True
        )
    }
    mine = lock.model_copy(
        update={"kernel_modules": made, "packages": lock.packages | dict.fromkeys(names, built)}
    )
    (baked.store.cache.control / built.sha256).write_bytes(b"")
    parts = {part.name: part for part in components.of_lock(mine, baked.store).parts}
    assert [parts[name].purl for name in names] == [f"pkg:generic/{name}@1.2-1" for name in names]
    assert dict(parts[names[0]].properties) == {
        "compiled-with": "gcc 14",
        "kernel": lock.kernel.release,
        "signer": "Me",
    }
    [agent], [card] = (parts[name].ancestors for name in names)
    assert agent.purl.startswith("pkg:deb/debian/source@")
    assert card.purl == (
        "pkg:generic/card@1.2?checksum=sha256:"
        + tarball.sha256
        + "&download_url=https://localhost/files/card.tgz"
    )


def test_a_bill_is_what_the_tree_holds(baked: Baked) -> None:
    lock, listed = baked.lock, materials.listed(baked.lock)
    assert lock.packages.keys() - baked.parts().keys() == {materials.PURGED}
    odd = "/opt/ml/numpy/lib/python3.11/site-packages/odd_one-1.0.dist-info/METADATA"
    for paths, said in (
        ([*listed, "/var/lib/dpkg/info/telnetd.list"], "package telnetd is in the image alone"),
        ([*listed, odd], "wheel numpy odd-one 1.0 is in the image alone"),
        (
            [path for path in listed if "/hnswlib-" not in path],
            r"wheel \S+ hnswlib \S+ is in the lock alone",
        ),
    ):
        baked.build = materials.build(baked.root, lock, paths)
        with pytest.raises(NotVerified, match=said):
            baked.parts()
    baked.build = materials.build(baked.root, lock)
    (baked.store.cache.control / lock.packages["bash"].sha256).unlink()
    with pytest.raises(BadInput, match=r"the store has no bash_\S+\.deb"):
        baked.parts()


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


def tree(root: Path, lock: Lock) -> Path:
    doc = root / "usr/share/doc"
    for name, licence in (
        ("glibc2.36", "GPL-3+"),
        ("debianutils", "GPL-2+ and Expat"),
        ("nano", "odd thing"),
    ):
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
            info = (
                root
                / f"opt/ml/{home}/lib/python3.13/site-packages"
                / f"{file.project.replace('-', '_')}-1.dist-info"
            )
            info.mkdir(parents=True)
            (info / "RECORD").touch()
            more = (
                "License-Expression: BSD-3-Clause\nAuthor-email: Team <t@example.org>\n"
                if file.project != "torch"
                else "License: MIT\nRequires-Dist: NumPy>1; python_version >= "
                "'3.10'\nRequires-Dist: absent\n"
                "Requires-Dist: (odd\nRequires-Dist: sympy; extra == 'x'\nRequires-Dist: jinja2; "
                "python_version < '3'\n"
            )
            (info / "METADATA").write_text(
                METADATA.format(file.project, file.version, more), encoding="utf-8"
            )
    return root


def test_what_the_tree_says_of_its_parts_is_in_a_valid_bill(driven: Baked, tmp_path: Path) -> None:
    assert not any(part.licence for part in driven.parts().values()), "an older build has no facts"
    facts = read_facts.gather(tree(tmp_path / "tree", driven.lock))
    assert read_facts.gather(tmp_path / "tree") == facts
    records.write(driven.build.path / PARTS_FILE, facts)
    text = driven.text()
    assert faults(text) == ""
    parts, bill = by_name(text), json.loads(text)
    licences = {name: part.get("licenses") for name, part in parts.items()}
    assert licences["bash"] == licences["libc6"] == [{"expression": "GPL-3.0-or-later"}]
    assert licences["debianutils"] == [{"expression": "GPL-2.0-or-later AND MIT"}]
    assert licences["nano"] == [{"expression": "LicenseRef-odd-thing"}]
    assert licences["python3"] is None, "prose is not guessed"
    assert licences["torch"] == [{"expression": "MIT"}]
    assert parts["bash"]["supplier"] == {"name": "Ada Lovelace"}
    assert parts["libc6"]["supplier"] == {"name": "GNU Libc"}
    names = {part["bom-ref"]: part["name"] for part in bill["components"]} | {"image": "image"}
    needs = {
        names[row["ref"]]: {names[ref] for ref in row["dependsOn"]} for row in bill["dependencies"]
    }
    assert needs["bash"] == {"libc6", "debianutils", "nano", "python3"}
    assert needs["torch"] == {"numpy"}
    assert "libc6" not in needs, "nobody said that it needs nothing"


def test_a_package_that_a_role_removed_is_no_part(driven: Baked, tmp_path: Path) -> None:
    """Also where it was not purged, so that its file list stays in the tree."""
    tree(tmp_path / "tree", driven.lock)
    status = tmp_path / "tree/var/lib/dpkg/status"
    assert "nano" in driven.parts()
    before = "Package: nano\nStatus: install ok installed"
    after = "Package: nano\nStatus: deinstall ok config-files"
    text = status.read_text(encoding="utf-8")
    for text_now, expected in ((text, True), (text.replace(before, after), False)):
        status.write_text(text_now, encoding="utf-8")
        records.write(driven.build.path / PARTS_FILE, read_facts.gather(tmp_path / "tree"))
        assert ("nano" in driven.parts()) is expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["GPL-2+", "Expat", "GPL-2+"], "GPL-2.0-or-later AND MIT"),
        (["LGPL-2.1"], "LGPL-2.1-only"),
        (["GPL-1+ or Artistic, and Expat"], "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND MIT"),
        (["BSD-3-clause or GPL-2"], "(BSD-3-Clause OR GPL-2.0-only)"),
        (["Apache-2.0 and/or MIT"], "(Apache-2.0 OR MIT)"),
        (["GPL-3+ with Bison exception"], "LicenseRef-GPL-3-plus-with-Bison-exception"),
        (["GPL-2.0+"], "GPL-2.0-or-later"),
        (["MIT OR Apache-2.0"], "(MIT OR Apache-2.0)"),
        (["MIT AND (ISC OR 0BSD)"], "(MIT AND (ISC OR 0BSD))"),
        (["Apache-2.0 WITH LLVM-exception"], "Apache-2.0 WITH LLVM-exception"),
        (["", "public-domain"], "LicenseRef-public-domain"),
        ([], ""),
        (["NVIDIA Proprietary"], "LicenseRef-NVIDIA-Proprietary"),
        (["???"], "LicenseRef-other"),
    ],
)
def test_licences_are_expressions_of_spdx(names: list[str], said: str) -> None:
    assert read_facts.expression(names) == said
