"""A package of one C++ file, to be compiled in the real scratch tree."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.compilation.wheel_builds import WheelBuild
from goldenami.model.locked.lockfile import Lock, Target
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import BuildInstructions, Recipe
from goldenami.packages import mirrors, store
from goldenami.packages.apt import store_requests
from goldenami.packages.pypi import Index, PyFile

SETUP = """
from setuptools import Extension, setup
module = Extension("demo", ["demo.cpp"], extra_compile_args=["-g", *EXTRA])
setup(name="demo", version="1.0", ext_modules=[module])
"""
CODE = """
#include <Python.h>
static PyObject *answer(PyObject *, PyObject *) { return PyLong_FromLong(ANSWER); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, nullptr},
                                {nullptr, nullptr, 0, nullptr}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "demo", nullptr, -1, methods};
PyMODINIT_FUNC PyInit_demo() { return PyModule_Create(&module); }
"""


def sdist(kept: store.Store, folder: Path, *, answer: str = "42", extra: str = "[]") -> PyFile:
    path = folder / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        files = {
            "setup.py": SETUP.replace("EXTRA", extra),
            "demo.cpp": CODE.replace("ANSWER", answer),
        }
        for name, text in files.items():
            entry = tarfile.TarInfo(f"demo-1.0/{name}")
            entry.size, entry.mtime = len(text.encode()), wheel_builds.EPOCH
            archive.addfile(entry, io.BytesIO(text.encode()))
    return PyFile(
        project="demo",
        version="1.0",
        filename=path.name,
        sha256=kept.add(path),
        size=path.stat().st_size,
    )


def order(
    lock: Lock, kept: store.Store, folder: Path, source: PyFile, **changes: object
) -> WheelBuild:
    """hnswlib's order with a small source in its place; its smoke test wants the answer."""
    framework = next(one for one in lock.frameworks if one.name == "hnswlib")
    assert framework.made is not None
    programs = folder / recipes.FOLDER / "demo"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "smoke.py").write_text(
        "import demo\nassert demo.answer() == 42\nprint(demo.answer())\n"
    )
    build = BuildInstructions(requires=[], environment={"CFLAGS": "{options}"}, memory_mib=100)
    recipe = Recipe(
        version="1.0",
        distribution="demo",
        module="demo",
        generic="x86-64-v3",
        build=build.model_copy(update=changes),
    )
    have(lock, kept, framework.made.requires)
    return dataclasses.replace(
        WheelBuild.of(lock, framework, recipe),
        name="demo",
        source=source,
        runs_with=[],
        target=Target(cpu="x86-64-v3", options=["-march=x86-64-v3"]),
    )


def have(lock: Lock, kept: store.Store, files: Sequence[PyFile]) -> None:
    debs = [package.deb(name) for name, package in lock.toolchain.items()]
    kept.fetch(store_requests(debs, mirrors.locate(sorted({deb.archive for deb in debs}))))
    Index.configured().fetch(files, kept)


def build(
    wanted: WheelBuild, kept: store.Store, folder: Path, root: Path | None = None
) -> wheel_builds.WheelOutcome:
    """Compile anew; the programs beside the recipe are below `root`, or `folder`."""
    wheel_builds.path_of(kept, wanted.key).unlink(missing_ok=True)
    progress = Progress.of("test", wanted.name, CachePaths(folder))
    compiler = wheel_builds.WheelCompiler(root or folder, kept, progress, folder / "log")
    return compiler.compiled(wanted)
