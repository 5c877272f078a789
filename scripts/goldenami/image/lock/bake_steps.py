"""Which packages each step of the bake installs, so that a step's layer depends on no package of a
later step."""

from __future__ import annotations

from goldenami.image.lock.compilation import dummy_packages
from goldenami.image.lock.compilation.driver_fit import FittedDriver
from goldenami.image.lock.resolution import LOCAL_SUITE, Resolution
from goldenami.model.builds.lockfile import Package, Step
from goldenami.packages import local_repository
from goldenami.packages.apt import AptRoot, Deb


def steps(
    resolution: Resolution, fitted: FittedDriver | None, base: list[str], debs: list[Deb]
) -> list[Step]:
    """Which packages each step of the bake installs, solved by apt among the image's own files
    only.

    So a step's layer depends on no package of a later step, and a driver release leaves the layers
    below it alone.
    """
    dummies = dummy_packages.of_driver(resolution.store, debs, resolution.driver_sources(),
                                       fitted.driver if fitted else "")
    others = [deb for deb in debs if deb.name not in dummies]
    before_driver = visible = _apt_of(resolution, "early", [*others, *dummies.values()])
    complete = _apt_of(resolution, "whole", debs) if dummies else before_driver
    so_far, known, steps = list[str](), set(base), list[Step]()
    for roles in resolution.definition.steps:
        visible = complete if "nvidia_driver" in roles else visible
        so_far += roles
        installed = {deb.name for deb in visible.solve(resolution.names(so_far))}
        used = {name: Package.of(dummies[name]) for name in installed & dummies.keys() if visible
                is before_driver}
        new = installed - known - used.keys()
        steps.append(Step(roles=roles, packages=sorted(new), stand_ins=used))
        known |= new
    late = {deb.name for deb in debs} - known
    return [*steps[:-1],
            steps[-1].model_copy(update={"packages": sorted({*steps[-1].packages, *late})})]


def _apt_of(resolution: Resolution, name: str, debs: list[Deb]) -> AptRoot:
    folder = resolution.apt.folder / "closure" / name
    repository = local_repository.write(resolution.store, debs, folder / "repo", suite=LOCAL_SUITE,
                                        epoch=0)
    apt = AptRoot(folder=folder, sources=(), uris={}, architecture=resolution.apt.architecture,
                  local_repo=repository)
    apt.configure()
    apt.pin({})
    apt.update()
    return apt
