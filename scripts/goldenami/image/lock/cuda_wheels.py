"""Which wheel of the package index an image with GPUs gets: the newest whose CUDA runs on the
locked driver. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldenami.core.errors import NoFit
from goldenami.local.code_coverage import fatbin
from goldenami.local.code_coverage.fatbin import DeviceImage
from goldenami.model.roles.recipes import PTX, CudaWheel, Recipe, Wheel
from goldenami.model.supported import compatibility


@dataclass(frozen=True)
class FittedRecipe:
    """A recipe as an image uses it: `recipe` names the chosen wheel and its version; `why` is ""
    without a choice; `passed_over` are wheels, each with the reason."""

    recipe: Recipe
    why: str = ""
    passed_over: tuple[tuple[str, str], ...] = ()

    @property
    def requirements(self) -> list[str]:
        wheel = self.recipe.wheel
        if isinstance(wheel, CudaWheel):
            return [wheel.requirement]
        return [f"{wheel.distribution}=={self.recipe.version}"] if wheel else []


def fit(recipe: Recipe, driver: str, sm: Sequence[str]) -> FittedRecipe:
    """The recipe for an image with `driver` ("535.309.01"; "" for none) and the CUDA architectures
    `sm` ("86").

    Where no wheel with CUDA fits, the image gets the one for images without GPUs: the lint says
    what that means. NoFit where that one holds CUDA too, and is never compiled here.
    """
    over = list[tuple[str, str]]()
    for wheel in recipe.cuda_wheels if driver and sm else []:
        try:
            why = _fits(wheel, driver, sm)
        except NoFit as error:
            over.append((f"{wheel.distribution} {wheel.version}", error.message))
            continue
        return FittedRecipe(
            recipe.model_copy(update={"version": wheel.version, "wheel": wheel}),
            f"CUDA {wheel.cuda}: {why}",
            tuple(over),
        )
    if (
        over
        and recipe.build.not_run
        and recipe.wheel
        and recipe.wheel.distribution in {wheel.distribution for wheel in recipe.cuda_wheels}
    ):
        raise NoFit(
            f"no wheel of {recipe.wheel.distribution} fits: "
            + "; ".join(f"{what}: {reason}" for what, reason in over),
            hint="choose a newer nvidia_driver_branch, or take the GPUs that none covers "
            "out of `hardware`",
        )
    return FittedRecipe(recipe, "no wheel with CUDA fits" if over else "", tuple(over))


def _fits(wheel: CudaWheel, driver: str, sm: Sequence[str]) -> str:
    if without := uncovered(wheel, sm):
        raise NoFit(f"it has no code for sm_{', sm_'.join(without)}", hint="declare other GPUs")
    return compatibility.check_cuda(wheel.cuda, driver)


def uncovered(wheel: Wheel | None, sm: Sequence[str]) -> list[str]:
    """Those of `sm` that no code in the wheel runs on; none where nobody looked."""
    if wheel is None or wheel.sm is None:
        return []
    held = [
        DeviceImage(capability=int(name.removesuffix(PTX)), suffix="", ptx=kind)
        for name in wheel.sm
        for kind in ((False, True) if name.endswith(PTX) else (False,))
    ]
    return fatbin.missing(held, sm)
