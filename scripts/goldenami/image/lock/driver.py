"""The driver's part of a new lock: the kernel and driver that compile together, and the role
variables that follow from them."""

from __future__ import annotations

from goldenami.image.lock import own_modules
from goldenami.image.lock.compilation import driver_fit
from goldenami.image.lock.compilation.driver_fit import DriverCandidate, FittedDriver
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild, ModuleOutcome
from goldenami.image.lock.resolution import Resolution
from goldenami.model.definitions import driver_requests
from goldenami.model.locked.lockfile import Choice, Kernel
from goldenami.model.supported import hardware
from goldenami.packages import signing_keys


def fit(resolution: Resolution, kernels: list[Kernel]) -> FittedDriver:
    """The newest of `kernels` and the newest driver that compile together. Their package is offered
    to apt, the reasons are added to `choices`."""
    variables = resolution.given("nvidia_driver")
    requests = driver_requests.requests(resolution.root, resolution.definition, variables)
    branch, flavour = (resolution.setting("nvidia_driver", name) for name in ("branch", "flavour"))

    def compile_pair(
        kernel: Kernel, candidate: DriverCandidate
    ) -> tuple[ModuleBuild, ModuleOutcome]:
        # The definition's own modules come first: a kernel that refuses one is out, whatever the
        # driver does.
        own_modules.compiled(resolution, kernel)
        resolution.progress.say(f"trying {driver_fit.pair(kernel, candidate)}")
        build = driver_fit.module_build(
            resolution.apt,
            kernel,
            candidate,
            suite=resolution.definition.base.release,
            signature=own_modules.signature(),
        )
        files = [build.source, *build.toolchain]
        return build, own_modules.compile_build(resolution, build, files)

    with resolution.progress.step("driver", f"branch {branch}, {flavour}"):
        fitted = driver_fit.fit(
            resolution.apt,
            requests,
            kernels,
            compile_pair=compile_pair,
            only=resolution.constraints.driver,
        )
    for choice in fitted.choices:
        for entry in choice.passed_over:
            resolution.progress.say(f"passed over {entry.what}: {entry.reason}")
    resolution.choices.extend(fitted.choices)
    resolution.offer_more([fitted.build.deb(fitted.outcome)], fitted.pins)
    return fitted


def derive(resolution: Resolution, kernel: Kernel) -> None:
    """Set the role variables that follow from the chosen kernel, driver and hardware."""
    sm = hardware.architectures(resolution.root, resolution.definition.hardware)
    resolution.derived["kernel"] = {
        "kernel_package": kernel.package,
        "kernel_release": kernel.release,
        "kernel_modules": own_modules.add(resolution, kernel),
    }
    resolution.derived["cuda"] = {"cuda_architectures": sm}
    resolution.derived["golden_health"] = {
        "golden_health_types": hardware.machines(resolution.root, resolution.definition.hardware)
    }
    if (fitted := resolution.fitted) is not None:
        resolution.derived["nvidia_driver"] = {
            "nvidia_driver_branch": fitted.driver.split(".")[0],
            "nvidia_driver_flavour": fitted.flavour,
            "nvidia_driver_version": fitted.driver,
            "nvidia_driver_kernel_release": kernel.release,
            "nvidia_driver_modules_package": fitted.build.package,
            "nvidia_driver_modules_signer": signed.signer
            if (signed := fitted.build.signature)
            else "",
        }
        _choose_gsp(resolution, fitted.flavour)
        _give_key(resolution)


def _give_key(resolution: Resolution) -> None:
    """Put the signing key of NVIDIA's repository into the role's variables, if the image keeps that
    repository."""
    if not resolution.setting("nvidia_driver", "repository_enabled") or resolution.setting(
        "nvidia_driver", "repository_key"
    ):
        return
    # A bake has no network, so the role cannot fetch the key itself.
    apt = resolution.apt
    for source in (source for source in apt.sources if source.archive == "nvidia"):
        key = signing_keys.keyring(source, apt.uris[source.archive], apt.folder).read_bytes()
        resolution.derived["nvidia_driver"]["nvidia_driver_repository_key"] = signing_keys.armored(
            key
        )


def _choose_gsp(resolution: Resolution, flavour: str) -> None:
    if families := driver_requests.without_gsp(resolution.root, resolution.definition, flavour):
        resolution.derived["nvidia_driver"][driver_requests.GSP_VARIABLE] = False
        resolution.choices.append(
            Choice(
                component="GSP firmware",
                taken="off",
                passed_over=[],
                why=f"EC2's advice for {', '.join(families)} with proprietary modules",
            )
        )
