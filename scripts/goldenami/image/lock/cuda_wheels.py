"""The choice of a framework's wheel for an image with GPUs: the newest whose CUDA runs on the
locked driver. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldenami.core.errors import NoFit
from goldenami.local.code_coverage import fatbin
from goldenami.local.code_coverage.fatbin import DeviceImage
from goldenami.model.roles.recipes import PTX, CudaWheel, Recipe, Wheel
from goldenami.model.supported.compatibility import DriverTable


@dataclass(frozen=True)
class FittedRecipe:
    """A recipe as an image uses it: `recipe` names the chosen wheel and its version. `why` is "" if
    there was no choice. `passed_over` are pairs of a wheel and the reason against it."""

    recipe: Recipe
    why: str = ""
    passed_over: tuple[tuple[str, str], ...] = ()

    @property
    def requirements(self) -> list[str]:
        wheel = self.recipe.wheel
        if isinstance(wheel, CudaWheel):
            return [wheel.requirement]
        return [f"{wheel.distribution}=={self.recipe.version}"] if wheel else []


def fit(recipe: Recipe, driver: str, sm: Sequence[str], drivers: DriverTable) -> FittedRecipe:
    """The recipe for an image with `driver` ("535.309.01", or "" for none) and the CUDA
    architectures `sm` ("86").

    If no wheel with CUDA fits, the image gets the wheel for images without GPUs. Raises NoFit if
    that one holds CUDA too and the framework is never compiled here.
    """
    passed_over = list[tuple[str, str]]()
    for wheel in recipe.cuda_wheels if driver and sm else []:
        try:
            why = _fits(wheel, driver, sm, drivers)
        except NoFit as error:
            passed_over.append((f"{wheel.distribution} {wheel.version}", error.message))
            continue
        return FittedRecipe(
            recipe.model_copy(update={"version": wheel.version, "wheel": wheel}),
            f"CUDA {wheel.cuda}: {why}",
            tuple(passed_over),
        )
    if (
        passed_over
        and recipe.build.not_run
        and recipe.wheel
        and recipe.wheel.distribution in {wheel.distribution for wheel in recipe.cuda_wheels}
    ):
        raise NoFit(
            f"no wheel of {recipe.wheel.distribution} fits: "
            + "; ".join(f"{what}: {reason}" for what, reason in passed_over),
            hint="choose a newer nvidia_driver_branch, or take the GPUs that none covers "
            "out of `hardware`",
        )
    # No error: the lint rule frameworks_use_gpus says that the GPUs stay idle.
    return FittedRecipe(
        recipe, "no wheel with CUDA fits" if passed_over else "", tuple(passed_over)
    )


def _fits(wheel: CudaWheel, driver: str, sm: Sequence[str], drivers: DriverTable) -> str:
    if missing := uncovered(wheel, sm):
        raise NoFit(f"it has no code for sm_{', sm_'.join(missing)}", hint="declare other GPUs")
    return drivers.check_cuda(wheel.cuda, driver)


def uncovered(wheel: Wheel | None, sm: Sequence[str]) -> list[str]:
    """Those of `sm` that no code in the wheel runs on. [] if the wheel's code was never
    examined."""
    if wheel is None or wheel.sm is None:
        return []
    device_images = list[DeviceImage]()
    for name in wheel.sm:
        capability = int(name.removesuffix(PTX))
        device_images.append(DeviceImage(capability=capability, suffix="", ptx=False))
        if name.endswith(PTX):
            device_images.append(DeviceImage(capability=capability, suffix="", ptx=True))
    return fatbin.missing(device_images, sm)
