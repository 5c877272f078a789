"""Which wheel an image with GPUs gets: by the locked driver and the declared GPUs, from the recipes
as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core.errors import NoFit
from goldenami.image.lock import build_decision, cuda_wheels
from goldenami.model.locked.lockfile import Origin
from goldenami.model.roles import recipes
from goldenami.model.roles.recipes import CudaWheel, Wheel
from goldenami.model.supported import compatibility

ROOT = Path(__file__).resolve().parents[3]
DRIVERS = compatibility.load(ROOT)


@pytest.mark.parametrize(
    ("name", "driver", "sm", "asked", "why"),
    [
        ("pytorch", "", [], "torch==2.15.0", ""),
        (
            "pytorch",
            "595.71.05",
            ["86", "89"],
            "torch===2.15.0",
            "CUDA 13.2: driver branch 595 has CUDA 13.2",
        ),
        (
            "pytorch",
            "595.71.05",
            ["75", "89"],
            "torch===2.10.0",
            "CUDA 12.8: driver branch 595 has CUDA 13.2",
        ),
        (
            "pytorch",
            "535.309.01",
            ["75", "89"],
            "torch===2.10.0",
            "CUDA 12.8: minor-version compatibility: CUDA 12.x needs driver 525.60.13 or newer",
        ),
        (
            "pytorch",
            "535.309.01",
            ["61"],
            "torch===2.7.1",
            "CUDA 12.6: minor-version compatibility: CUDA 12.x needs driver 525.60.13 or newer",
        ),
        (
            "tensorflow",
            "535.309.01",
            ["75", "89"],
            "tensorflow[and-cuda]===2.21.0",
            "CUDA 12.5: minor-version compatibility: CUDA 12.x needs driver 525.60.13 or newer",
        ),
        ("tensorflow", "", [], "tensorflow-cpu==2.21.0", ""),
        ("tensorflow", "535.309.01", ["52"], "tensorflow-cpu==2.21.0", "no wheel with CUDA fits"),
        (
            "xgboost",
            "535.309.01",
            ["75"],
            "xgboost===3.2.0",
            "CUDA 12.9: minor-version compatibility: CUDA 12.x needs driver 525.60.13 or newer",
        ),
    ],
)
def test_the_newest_wheel_that_fits(
    name: str, driver: str, sm: list[str], asked: str, why: str
) -> None:
    found = cuda_wheels.fit(recipes.load(ROOT, name), driver, sm, DRIVERS)
    assert (found.requirements, found.why) == ([asked], why)
    assert asked.endswith(f"={found.recipe.version}")


@pytest.mark.parametrize(
    ("driver", "sm", "reasons"),
    [
        (
            "470.256.02",
            ["75"],
            "torch 2.15.0: it has no code for sm_75; torch 2.10.0: CUDA 12.8 does not run on "
            "driver 470.256.02: CUDA 12.x needs 525.60.13; torch 2.7.1: CUDA 12.6 does not run on "
            "driver 470.256.02: ",
        ),
        (
            "595.71.05",
            ["37", "86"],
            "torch 2.15.0: it has no code for sm_37; torch 2.10.0: it has no code for sm_37; ",
        ),
    ],
)
def test_pytorch_is_refused_where_no_wheel_fits(driver: str, sm: list[str], reasons: str) -> None:
    """The index has no wheel of it without CUDA, so there is nothing to fall back to."""
    with pytest.raises(NoFit) as caught:
        cuda_wheels.fit(recipes.load(ROOT, "pytorch"), driver, sm, DRIVERS)
    assert caught.value.message.startswith(f"no wheel of torch fits: {reasons}")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("held", "sm", "lacking"),
    [
        (None, ["75"], []),
        ([], ["75"], ["75"]),
        (["80"], ["75", "80", "86", "89", "90"], ["75", "90"]),
        (["70+ptx"], ["61", "70", "75", "120"], ["61"]),
    ],
)
def test_code_runs_on_later_minor_numbers_and_ptx_on_all_that_is_newer(
    held: list[str] | None,
    sm: list[str],
    lacking: list[str],
) -> None:
    assert cuda_wheels.uncovered(Wheel(distribution="demo", sm=held), sm) == lacking


def test_a_wheel_for_gpus_is_not_traded_for_a_build_without_them() -> None:
    built = recipes.BuildInstructions(requires=[], memory_mib=500)
    own = recipes.load(ROOT, "xgboost").model_copy(update={"build": built})
    recipe = cuda_wheels.fit(own, "535.309.01", ["75"], DRIVERS).recipe
    decision = build_decision.decide("xgboost", recipe, ["znver4"], [], [])
    assert (decision.origin, decision.why) == (
        Origin.WHEEL,
        "a build would have no code for the GPUs",
    )


@pytest.mark.parametrize("name", recipes.known(ROOT))
def test_wheels_with_cuda_stand_newest_first(name: str) -> None:
    wheels = recipes.load(ROOT, name).cuda_wheels
    versions = [tuple(map(int, wheel.version.split("."))) for wheel in wheels]
    assert versions == sorted(versions, reverse=True)
    assert all(isinstance(wheel, CudaWheel) and wheel.sm for wheel in wheels)
