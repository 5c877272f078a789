"""What is said of an image's Python packages: bills of materials, lists of vulnerabilities, the
lint and the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.image.cve import cve
from goldenami.image.lock import lint
from goldenami.image.sbom import components
from goldenami.model.builds.security_records import Feed
from goldenami.model.locked.lockfile import Lock
from goldenami.model.locked.python_packages import PythonPackages
from goldenami.model.supported import compatibility
from goldenami.packages.pypi import PyFile, PythonIndex
from goldenami.packages.store import Store
from support.builds.checkout import ROOT
from support.builds.sample_lock import sample
from support.security import materials

URL = "https://pypi.company.example/simple"


@pytest.fixture
def lock() -> Lock:
    wheels = [
        PyFile(
            project=name, version="1.0", filename=f"{name}-1.0.whl", sha256=digit * 64, size=10**9
        )
        for name, digit in (("einops", "a"), ("company-model", "b"), ("cupy-cuda12x", "c"))
    ]
    index = PythonIndex(url=URL, packages=("company-*",), login="COMPANY_PYPI")
    return sample(
        python=PythonPackages(
            environment="ml",
            asked={"einops": "einops", "company-model": "company-model==1.0"},
            wheels=wheels,
            index=index,
            allow=[],
        )
    )


def test_bills_of_materials_name_a_private_package_as_such(lock: Lock, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    materials.stock(store, lock)
    parts = {part.name: part for part in components.of_lock(lock, store).parts}
    assert parts["einops"].purl == "pkg:pypi/einops@1.0"
    assert parts["company-model"].purl == (
        "pkg:pypi/company-model@1.0?repository_url=https://pypi.company.example/simple"
    )
    assert ("environment", "ml") in parts["company-model"].properties


def test_no_public_list_is_asked_of_a_private_package(lock: Lock, tmp_path: Path) -> None:
    """The list knows another project of its name, or tells the world that there is one."""
    store = Store(tmp_path / "cache")
    materials.stock(store, lock)
    found = components.of_lock(lock, store)
    assert {part.vendor for part in found.parts if part.name == "company-model"} == {"private"}
    assert Feed.PYPI in cve._parsers(found, compatibility.load(ROOT))
    python = lock.python
    assert python is not None
    alone = python.model_copy(update={"wheels": python.wheels[1:2]})
    found = components.of_lock(lock.model_copy(update={"python": alone}), store)
    assert Feed.PYPI not in cve._parsers(found, compatibility.load(ROOT))


def test_the_lint_sees_wheels_of_cuda_without_gpus(lock: Lock) -> None:
    said = [finding.message for finding in lint.check(lock, ROOT)]
    assert any(
        line.startswith("python_packages brings 1 wheels of CUDA (1.0 GB)") for line in said
    ), said
