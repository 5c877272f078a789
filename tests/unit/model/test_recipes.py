"""Recipes: what is refused, with file, line, key and the nearest valid one; every recipe of the
checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import SourceKind

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
version: 1.0
distribution: demo
module: demo
generic: x86-64-v3
build:
  requires: [setuptools]
  environment:
    CFLAGS: "{options}"
  patches:
    - {file: a.c, find: x, replace: y}
  memory_mib: 500
""".replace("1.0", '"1.0"').lstrip()


def load(tmp_path: Path, text: str) -> recipes.Recipe:
    folder = tmp_path / recipes.FOLDER / "demo"
    folder.mkdir(parents=True)
    (folder / "recipe.yml").write_text(text, encoding="utf-8")
    return recipes.load(tmp_path, "demo")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "  environment:",
            "  enviroment:",
            ":7: build.enviroment: unknown key; did you mean `environment`?",
        ),
        ("  memory_mib: 500\n", "", ":5: build.memory_mib: is required and missing"),
        ("generic: x86-64-v3\n", "", ":1: generic: is required where there is no wheel"),
        (GOOD[GOOD.index("build:") :], "", ":1: build: is required where there is no wheel"),
    ],
)
def test_one_that_is_wrong(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert caught.value.message.partition("recipe.yml")[2].startswith(complaint)


def test_the_keys_of_lightgbm_for_gpus_make_a_recipe(tmp_path: Path) -> None:
    """Those of a page, for a company's copy."""
    own = (ROOT / recipes.FOLDER / "lightgbm/recipe.yml").read_text(encoding="utf-8")
    more = (ROOT / "docs/lightgbm-cuda.yml").read_text(encoding="utf-8")
    recipe = load(tmp_path, own + more)
    assert recipe.build and recipe.build.cuda
    assert "-DUSE_CUDA=ON" in recipe.build.cuda.environment["CMAKE_ARGS"]


def test_one_that_does_not_exist() -> None:
    with pytest.raises(BadInput) as caught:
        recipes.load(ROOT, "hnswlip")
    assert caught.value.message == "no framework `hnswlip`; did you mean `hnswlib`?"


@pytest.mark.parametrize("name", recipes.known(ROOT))
def test_a_source_of_the_index_is_named_by_its_sha256(name: str) -> None:
    recipe = recipes.load(ROOT, name)
    source = recipe.source
    if recipe.has_build:
        assert (
            (source.kind is SourceKind.SDIST) == (source.sha256 is not None) == (source.url is None)
        )


def test_tensorflow_s_backend_hands_pip_the_wheel_that_bazel_made(tmp_path: Path) -> None:
    """As pip calls it; a script stands in for Bazel, which lies in the archive."""
    folder, out = tmp_path / "source", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for name, text in recipes.load(ROOT, "tensorflow").build.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    made = "bazel-bin/tensorflow/tools/pip_package/wheel_house"
    bazel = f"echo $@ >> .log; mkdir -p {made}; echo made > {made}/demo-1-py3-none-any.whl"
    for name, text in {"configure": "echo configured > .log", "bazel": bazel}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    assert (
        tomllib.loads((folder / "pyproject.toml").read_text())["build-system"]["build-backend"]
        == "golden_backend"
    )
    code = f"import golden_backend; print(golden_backend.build_wheel({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BAZEL_OPTIONS": "--jobs=2 --config=opt", "PYTHONPATH": "."},
    )
    assert done.stdout == "demo-1-py3-none-any.whl\n"
    assert (out / "demo-1-py3-none-any.whl").read_text() == "made\n"
    assert (folder / ".log").read_text() == (
        "configured\nbuild --jobs=2 --config=opt //tensorflow/tools/pip_package:wheel\n"
    )


def test_what_the_coverage_gate_allows_has_reasons(tmp_path: Path) -> None:
    assert all(one.reason for entries in recipes.dispatching(ROOT).values() for one in entries)
    path = tmp_path / recipes.DISPATCHING
    path.parent.mkdir(parents=True)
    path.write_text("demo:\n  - files: a\n    extensions: ['*']\n", encoding="utf-8")
    with pytest.raises(
        BadInput, match=r"dispatching.yml:2: demo\.1\.reason: is required and missing"
    ):
        recipes.dispatching(tmp_path)
