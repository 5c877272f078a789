"""Whether the parts of a lock fit each other: offline, on the lock alone. Every rule has a name and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum

from goldenami import policy
from goldenami.errors import NoFit
from goldenami.hardware import Family, Maker, by_modules
from goldenami.lockfile import Lock
from goldenami.records import Record


class Severity(StrEnum):
    """An error stops a release; a warning does so only under `--strict`."""

    ERROR = "error"
    WARNING = "warning"


class Finding(Record):
    """One violation."""

    rule: str
    severity: Severity
    message: str


_DRIVER_SOURCES = ("nvidia-graphics-drivers", "nvidia-open-gpu-kernel-modules", "fabric-manager")
Families = dict[str, Family]


def one_driver(lock: Lock, _: Families) -> Iterator[str]:
    """Every binary of the driver's source packages has the driver's version: half a driver is none."""
    if lock.driver is None:
        return
    for name, package in sorted(lock.packages.items()):
        if package.source.startswith(_DRIVER_SOURCES) and policy.upstream(package.version) != lock.driver.version:
            yield f"{name} is {package.version}, the driver is {lock.driver.version}"


def same_branch(lock: Lock, _: Families) -> Iterator[str]:
    """Helpers that distributions package apart (persistenced, modprobe) are of the driver's branch or newer."""
    for name in ("nvidia-persistenced", "nvidia-modprobe"):
        package = lock.packages.get(name)
        if lock.driver and package and int(policy.upstream(package.version).split(".")[0]) < int(lock.driver.branch):
            yield f"{name} is {package.version}, older than the driver's branch {lock.driver.branch}"


def cuda_runs_on_driver(lock: Lock, _: Families) -> Iterator[str]:
    """The driver is new enough for the CUDA."""
    if lock.cuda and lock.driver:
        yield from _refusal(policy.check_cuda, lock.cuda.version, lock.driver.version)


def cuda_reaches_hardware(lock: Lock, _: Families) -> Iterator[str]:
    """The CUDA compiles for every declared GPU."""
    if lock.cuda:
        yield from _refusal(policy.check_architectures, lock.cuda.version, lock.hardware.sm)


def flavour_runs_hardware(lock: Lock, families: Families) -> Iterator[str]:
    """The kernel modules' flavour runs every declared GPU."""
    if lock.driver:
        yield from _refusal(policy.check_flavour, lock.driver.flavour, *by_modules(families, lock.hardware.families))


def one_kernel(lock: Lock, _: Families) -> Iterator[str]:
    """There is one kernel, the modules are for it, and they were compiled with its headers."""
    images = sorted(name for name in lock.packages if name.startswith("linux-image-") and name != lock.kernel.package)
    yield from (f"{name} is a second kernel beside {lock.kernel.package}" for name in images)
    kernel = lock.packages.get(lock.kernel.package)
    if kernel is None or kernel.version != lock.kernel.version:
        yield f"{lock.kernel.package} {lock.kernel.version} is not among the packages"
    if lock.driver is None or lock.driver.modules is None:
        return
    made = lock.driver.modules
    if not made.package.endswith(lock.kernel.release) or lock.kernel.package not in made.depends:
        yield f"the modules {made.package} are not for the kernel {lock.kernel.release}"
    headers = made.build.get(f"linux-headers-{lock.kernel.release}")
    if headers is None or headers.version != lock.kernel.version:
        yield f"the modules were not compiled with the headers of {lock.kernel.release} {lock.kernel.version}"


def supported_branch(lock: Lock, _: Families) -> Iterator[str]:
    """The driver's branch was supported on the day of the lock's indexes."""
    day = datetime.fromtimestamp(lock.source_date_epoch, UTC).date().isoformat()
    if lock.driver and (end := policy.past_end(lock.driver.branch, day)):
        yield f"driver branch {lock.driver.branch} is past its end of life ({end}): plan the move to a newer branch"


def used_accelerators(lock: Lock, families: Families) -> Iterator[str]:
    """Every accelerator of the families has a driver in the image, and a driver has a GPU to drive."""
    gpus = {name: gpu for name in lock.hardware.families if (gpu := families[name].gpu)}
    nvidia = [name for name, gpu in gpus.items() if gpu.maker is Maker.NVIDIA]
    if nvidia and lock.driver is None:
        yield f"the GPUs of {', '.join(nvidia)} stay idle: the image has no NVIDIA driver (role nvidia_driver)"
    if lock.driver and not nvidia:
        yield f"none of {', '.join(lock.hardware.families)} has an NVIDIA GPU for the image's driver"
    for name in lock.hardware.families:
        other = families[name].chip or (gpus[name].name if name in gpus and name not in nvidia else None)
        if other:
            yield f"the {other} of {name} stays idle: goldenami installs drivers of NVIDIA only"


def fabric_manager(lock: Lock, families: Families) -> Iterator[str]:
    """Where the GPUs meet in an NVSwitch, CUDA does not start without the fabric manager (NVIDIA's user guide)."""
    switched = [name for name in lock.hardware.families if families[name].nvswitch]
    has_one = any(package.source.startswith("fabric-manager") or ("fabric" in name and "manager" in name)
                  for name, package in lock.packages.items())
    if lock.driver and switched and not has_one:
        need = "needs" if len(switched) == 1 else "need"
        yield f"{', '.join(switched)} {need} the fabric manager, which the image has not: CUDA does not start there"


Rule = Callable[[Lock, Families], Iterator[str]]
ERRORS: tuple[Rule, ...] = (
    one_driver, same_branch, cuda_runs_on_driver, cuda_reaches_hardware, flavour_runs_hardware, one_kernel,
)
WARNINGS: tuple[Rule, ...] = (supported_branch, used_accelerators, fabric_manager)


def check(lock: Lock, families: Families) -> list[Finding]:
    """All violations, errors first."""
    return [Finding(rule=rule.__name__, severity=severity, message=message)
            for severity, rules in ((Severity.ERROR, ERRORS), (Severity.WARNING, WARNINGS))
            for rule in rules for message in rule(lock, families)]


def _refusal(look: Callable[..., object], *args: object) -> Iterator[str]:
    try:
        look(*args)
    except NoFit as error:
        yield error.message
