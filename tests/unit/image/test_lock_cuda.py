"""CUDA as wheels of the package index: which release and parts are asked for, what is refused, what
the lock gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.core.terminal.progress import Progress
from goldenami.image.lock import cuda, frameworks
from goldenami.image.lock.compilation import wheel_builds
from goldenami.image.lock.frameworks import FrameworkRequest, FrameworkResolver
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import definition_file
from goldenami.model.locked.lockfile import Target
from goldenami.model.supported.platforms import PLATFORMS
from goldenami.packages.pypi import VARIABLE, Index
from goldenami.packages.store import Store
from support.builds.checkout import ROOT
from support.debian import pyindex
from support.debian.debrepo import Package
from support.debian.pyindex import PyIndex
from support.debian.resolver import Resolver

REQUEST = FrameworkRequest(
    names=["pytorch", "numpy"],
    shared_environment="ml",
    cpus=["znver3"],
    suite="trixie",
    gcc=(14, 2),
    target=Target(cpu="znver3", options=[], sm=["75", "86"]),
    driver="550.163.01",
)
PARTS = ("nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12", "nvidia-cuda-nvcc-cu12")


@pytest.fixture
def served() -> Iterator[PyIndex]:
    with pyindex.serve() as index:
        for version in ("12.6.3", "12.8.0", "12.8.1", "13.2.2"):
            index.wheel("cuda-toolkit", version, tuple(f"{part}=={version}" for part in PARTS))
            for part in PARTS:
                index.wheel(part, version)
        index.wheel("helper", "1.0")
        yield index


@pytest.fixture
def around(
    served: PyIndex,
    resolver: Resolver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> FrameworkResolver:
    monkeypatch.setenv(VARIABLE, served.url)
    apt = resolver.root(
        [
            Package("python3", "3.13.5-1", depends="libc6"),
            Package("libc6", "2.41-12"),
            Package("base-files", fields={"Essential": "yes", "Priority": "required"}),
            Package("apt"),
            *(Package(name, depends="python3") for name in wheel_builds.PACKAGES),
        ]
    )
    return FrameworkResolver(
        request=REQUEST,
        root=ROOT,
        apt=apt,
        store=Store(tmp_path / "cache"),
        index=Index.configured(),
        log=tmp_path,
        progress=Progress.of("lock", "demo", CachePaths(tmp_path)),
        fetch_debs=lambda _: None,
    )


def resolution(around: FrameworkResolver, **settings: Any) -> Resolution:
    """As `debian-13-ml`'s lock begins, with other settings of CUDA."""
    definition = definition_file.load(ROOT, definition_file.path_of(ROOT, "debian-13-ml"))
    given = {"cuda_source": "wheels", **{f"cuda_{name}": value for name, value in settings.items()}}
    roles = {**definition.roles, "cuda": given}
    return Resolution(
        ROOT,
        definition.model_copy(update={"roles": roles}),
        around.store,
        around.progress,
        around.log,
        PLATFORMS["trixie"],
        around.apt,
        derived={"cuda": {"cuda_architectures": REQUEST.target.sm}},
    )


@pytest.mark.parametrize(
    ("settings", "release", "part"),
    [
        ({}, "12.8", "cublas"),
        ({"variant": "jit"}, "12.8", "nvcc"),
        ({"variant": "nvcc"}, "12.8", "nvcc"),
        ({"variant": "toolkit", "release": "13.2"}, "13.2", "nvvm"),
    ],
)
def test_what_pip_is_asked_for(
    around: FrameworkResolver, settings: dict[str, str], release: str, part: str
) -> None:
    """Without a release it is the one that PyTorch's wheel for this driver was compiled with."""
    wanted = cuda.requirement(resolution(around, **settings), around)
    assert wanted.startswith("cuda-toolkit[")
    assert wanted.endswith(f"]=={release}.*")
    assert part in wanted.partition("[")[2].partition("]")[0].split(",")


@pytest.mark.parametrize(
    ("settings", "names", "message"),
    [
        (
            {"release": "12.7"},
            ["pytorch"],
            "the package index has no CUDA 12.7: its cuda-toolkit is 12.6, 12.8, 13.2",
        ),
        (
            {"variant": "toolkit"},
            ["pytorch"],
            "the package index has no nvcc of CUDA 12.8: NVIDIA's wheels hold it from CUDA 13.0 "
            "on, those of 12 ptxas and libnvvm only",
        ),
        (
            {"variant": "nvcc", "release": "13.2"},
            ["pytorch"],
            "cuda_variant is nvcc, and the distribution's nvcc is of CUDA 12.4: nothing that it "
            "compiles runs with wheels of CUDA 13.2",
        ),
        ({}, ["numpy"], "cuda_source is wheels, and no framework of the image has CUDA"),
        (
            {},
            ["pytorch", "xgboost"],
            "cuda_source is wheels, and pytorch has CUDA 12.8, xgboost has CUDA 12.9",
        ),
    ],
)
def test_what_is_refused(
    around: FrameworkResolver,
    settings: dict[str, str],
    names: list[str],
    message: str,
) -> None:
    request = FrameworkRequest(**{**vars(REQUEST), "names": names})
    with pytest.raises(GoldenError) as caught:
        cuda.requirement(
            resolution(around, **settings), dataclasses.replace(around, request=request)
        )
    assert caught.value.message == message
    assert caught.value.hint


def test_an_image_without_frameworks_has_an_environment_for_cuda(
    around: FrameworkResolver,
) -> None:
    state, alone = (
        resolution(around, release="12.8"),
        FrameworkRequest(**{**vars(REQUEST), "shared_environment": ""}),
    )
    request = dataclasses.replace(alone, beside=["cuda-toolkit==12.8.*"])
    asked = dataclasses.replace(around, request=request)
    files = asked.environment(frameworks.NO_FRAMEWORKS)
    found = cuda.of_wheels(state, files, alone)
    assert (found.version, found.environment, found.why) == (
        "12.8",
        "cuda",
        "no driver in this image",
    )
    assert [f"{file.project} {file.version}" for file in found.wheels] == [
        "cuda-toolkit 12.8.1",
        "nvidia-cublas-cu12 12.8.1",
        "nvidia-cuda-nvcc-cu12 12.8.1",
        "nvidia-cuda-runtime-cu12 12.8.1",
    ]
    assert {row.files for row in found.allow} >= {"nvidia/*.so*"}
    derived = state.derived["cuda"]
    assert (derived["cuda_version"], derived["cuda_environment"]) == ("12.8", "cuda")
    assert derived["cuda_wheels"].keys() == {file.project for file in found.wheels}
    assert state.choices[0].component == "cuda"


def test_cuda_that_the_driver_does_not_run_is_refused(around: FrameworkResolver) -> None:
    class Fitted:
        driver = "550.163.01"

    state = resolution(around, release="13.2")
    state.fitted = Fitted()  # type: ignore[assignment]
    request = dataclasses.replace(REQUEST, beside=["cuda-toolkit==13.2.*"])
    asked = dataclasses.replace(around, request=request)
    files = asked.environment(frameworks.NO_FRAMEWORKS)
    with pytest.raises(
        GoldenError, match=r"CUDA 13.2 does not run on driver 550.163.01: CUDA 13.x needs 580.65.06"
    ):
        cuda.of_wheels(state, files, REQUEST)
