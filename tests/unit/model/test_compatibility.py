from __future__ import annotations

import pytest
from goldenami.core.errors import NoFit
from goldenami.model.supported import compatibility


@pytest.mark.parametrize(
    ("cuda", "driver", "why"),
    [
        ("11.8", "535.309.01", "driver branch 535 has CUDA 12.2"),
        ("12.2", "535.54.03", "driver branch 535 has CUDA 12.2"),
        (
            "12.9",
            "535.54.03",
            "minor-version compatibility: CUDA 12.x needs driver 525.60.13 or newer",
        ),
        (
            "11.8",
            "470.82.01",
            "minor-version compatibility: CUDA 11.x needs driver 450.80.02 or newer",
        ),
        (
            "13.0",
            "1000.1",
            "minor-version compatibility: CUDA 13.x needs driver 580.65.06 or newer",
        ),
    ],
)
def test_cuda_that_runs(cuda: str, driver: str, why: str) -> None:
    assert compatibility.check_cuda(cuda, driver) == why


@pytest.mark.parametrize(
    ("cuda", "driver", "needs"),
    [
        ("12.1", "525.60.11", "needs 525.60.13"),
        ("13.0", "575.57.08", "needs 580.65.06"),
        ("14.0", "595.45.04", "needs a newer driver"),
    ],
)
def test_cuda_that_does_not_run(cuda: str, driver: str, needs: str) -> None:
    with pytest.raises(NoFit) as caught:
        compatibility.check_cuda(cuda, driver)
    assert caught.value.message.startswith(f"CUDA {cuda} does not run on driver {driver}: ")
    assert needs in caught.value.message


@pytest.mark.parametrize(
    ("cuda", "good", "bad"),
    [
        ("11.4", ["35", "86", "87"], ["89", "90"]),
        ("11.6", ["80"], ["90"]),
        ("11.8", ["35", "75", "89", "90"], ["100"]),
        ("12.2", ["50", "90"], ["35", "120"]),
        ("12.6", ["90"], ["100"]),
        ("12.8", ["100", "120"], ["103", "121"]),
        ("12.9", ["103", "121"], []),
        ("13.0", ["75", "121"], ["70"]),
    ],
)
def test_architectures_by_release(cuda: str, good: list[str], bad: list[str]) -> None:
    compatibility.check_architectures(cuda, good)
    for sm in bad:
        with pytest.raises(NoFit, match=rf"CUDA {cuda} compiles for .*, not for sm_{sm}$"):
            compatibility.check_architectures(cuda, [*good, sm])


@pytest.mark.parametrize("cuda", ["9.2", "14.0"])
def test_architectures_of_an_unknown_cuda(cuda: str) -> None:
    with pytest.raises(NoFit, match=f"CUDA {cuda} compiles for is not known"):
        compatibility.check_architectures(cuda, ["75"])


def test_flavour_against_generation() -> None:
    compatibility.check_flavour("open", ["p6"], [])
    compatibility.check_flavour("proprietary", [], ["p3"])
    with pytest.raises(NoFit, match="open kernel modules need Turing or newer, which p3 has not"):
        compatibility.check_flavour("open", [], ["p3"])
    with pytest.raises(NoFit, match="only the open kernel modules run the GPU of p6"):
        compatibility.check_flavour("proprietary", ["p6"], [])


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("11.8.89~11.8.0-5~deb12u1", "11.8.89"),
        ("2:580.95.05~rc1", "580.95.05"),
    ],
)
def test_upstream_versions(version: str, upstream: str) -> None:
    assert compatibility.upstream(version) == upstream
