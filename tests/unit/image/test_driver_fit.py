from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from goldenami.core.errors import ExitCode, NoFit
from goldenami.image.lock.compilation import driver_fit
from goldenami.image.lock.compilation.driver_fit import DriverCandidate
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild, ModuleOutcome
from goldenami.local.programs.compile_modules import (
    LEAST_FREE_BYTES,
    denied_memory,
    first_error,
    lacks,
)
from goldenami.model.definitions.driver_requests import DriverRequest
from goldenami.model.locked.lockfile import Kernel, PassedOver
from goldenami.model.supported import compatibility
from goldenami.packages.apt import AptRoot, Deb
from support.builds.tools import ROOT
from support.debian.debrepo import Package, kernel_packages
from support.debian.resolver import Resolver

DRIVERS = compatibility.load(ROOT)
REQUEST = DriverRequest(
    branch="535",
    flavour="proprietary",
    dkms_package="nvidia-kernel-dkms",
    userland_package="nvidia-smi",
    pinned_sources=["nvidia-graphics-drivers"],
    provides=["nvidia-kernel-VERSION"],
)
DEB = Deb("x", "1", "amd64", "0" * 64, 1, 1, "debian", "x.deb", "x")


def meta(abi: str, version: str) -> Package:
    return Package(
        "linux-image-cloud-amd64", version, depends=f"linux-image-{abi}-cloud-amd64 (= {version})"
    )


def compiling(
    works: Callable[[str, str], bool],
) -> Callable[[Kernel, DriverCandidate], tuple[ModuleBuild, ModuleOutcome]]:
    def compile_pair(kernel: Kernel, driver: DriverCandidate) -> tuple[ModuleBuild, ModuleOutcome]:
        recipe = ModuleBuild(
            name="nvidia",
            kernel_release=kernel.release,
            version=driver.version,
            provides=[],
            depends=[],
            suite="stable",
            source=DEB,
            toolchain=[],
        )
        good = works(kernel.release, driver.version)
        return recipe, ModuleOutcome(
            key="k",
            deb_sha256="1" * 64 if good else None,
            deb_size=1,
            installed_size=1,
            compiler="gcc 12",
            seconds=9.0,
            first_error="" if good else "nv-pci.c:237: error: too few arguments",
        )

    return compile_pair


def versions(candidates: list[DriverCandidate]) -> list[str]:
    return [candidate.version for candidate in candidates]


def failed(driver: str, abi: int = 56) -> PassedOver:
    """How a lock tells of a proprietary driver that `compiling` refused."""
    return PassedOver(
        what=f"driver {driver} (proprietary) on kernel 6.1.0-{abi}",
        reason="nv-pci.c:237: error: too few arguments",
    )


def test_kernels_of_the_series_newest_first_each_with_headers(resolver: Resolver) -> None:
    root = resolver.root(
        [
            *kernel_packages("6.1.0-9", "6.1.27-1"),
            *kernel_packages("6.1.0-50", "6.1.140-1"),
            *kernel_packages("6.1.0-56", "6.1.176-1"),
            *kernel_packages("6.1.0-57", "6.1.180-1", headers=False),
            *kernel_packages("6.12.9", "6.12.9-1"),
            Package("linux-image-6.1.0-58-amd64", "6.1.190-1"),
            Package("linux-image-6.1.0-58-cloud-amd64-unsigned", "6.1.190-1"),
            Package("linux-headers-cloud-amd64", depends="linux-headers-6.1.0-57-cloud-amd64"),
            meta("6.1.0-50", "6.1.140-1"),
            meta("6.1.0-56", "6.1.176-1"),
        ]
    )
    found = driver_fit.kernels(root, "cloud")
    assert [kernel.release for kernel in found] == [
        "6.1.0-56-cloud-amd64",
        "6.1.0-50-cloud-amd64",
        "6.1.0-9-cloud-amd64",
    ]
    assert found[0] == Kernel(
        release="6.1.0-56-cloud-amd64",
        package="linux-image-6.1.0-56-cloud-amd64",
        version="6.1.176-1",
    )


def test_ubuntu_s_kernels_for_ec2_of_both_series(resolver: Resolver) -> None:
    """noble-updates' linux-image-aws has left 6.8, at which linux-image-aws-lts-24.04 stays."""
    root = resolver.root(
        [
            *(
                Package(f"linux-{kind}-{release}", version)
                for kind in ("image", "headers")
                for release, version in (
                    ("6.8.0-1008-aws", "6.8.0-1008.8"),
                    ("6.14.0-1018-aws", "6.14.0-1018.18~24.04.1"),
                    ("6.14.0-37-generic", "6.14.0-37.37~24.04.1"),
                )
            ),
            Package("linux-image-unsigned-6.14.0-1018-aws", "6.14.0-1018.18~24.04.1"),
            Package("linux-image-aws", "6.8.0-1008.8", depends="linux-image-6.8.0-1008-aws"),
            Package(
                "linux-image-aws", "6.14.0-1018.18~24.04.1", depends="linux-image-6.14.0-1018-aws"
            ),
        ]
    )
    assert [kernel.release for kernel in driver_fit.kernels(root, "aws")] == [
        "6.14.0-1018-aws",
        "6.8.0-1008-aws",
    ]


def test_no_kernel(resolver: Resolver) -> None:
    with pytest.raises(NoFit, match="no kernel package linux-image-aws"):
        driver_fit.kernels(resolver.root([Package("x")]), "aws")
    half = resolver.root(
        [*kernel_packages("6.1.0-50", "6.1.140-1", headers=False), meta("6.1.0-50", "6.1.140-1")]
    )
    with pytest.raises(NoFit, match=r"no kernel of the series 6\.1 with its headers") as caught:
        driver_fit.kernels(half, "cloud")
    assert caught.value.exit_code is ExitCode.NO_FIT


@pytest.fixture
def drivers(resolver: Resolver) -> AptRoot:
    """Drivers in an order that strings get wrong, and user space that is ahead of the modules."""
    versions = (
        "535.54.03-1",
        "535.216.03-1~bpo12+1",
        "535.261.03-1",
        "1:535.9.1-1",
        "550.1-1",
        "535.261.03-1+deb12u1",
    )
    smi = (
        "535.54.03-1",
        "535.216.03-1",
        "535.261.03-1",
        "535.9.1-1",
        "535.309.01-1",
        "550.163.01-1",
    )
    return resolver.root(
        [
            *(Package("nvidia-kernel-dkms", version) for version in versions),
            *(Package("nvidia-smi", version) for version in smi),
        ]
    )


def test_what_is_compiled_may_be_in_a_package_of_its_own(resolver: Resolver) -> None:
    tools = [Package(name) for name in ("apt", "make", "gcc", "kmod", "linux-headers-6")]
    root = resolver.root(
        [
            *tools,
            Package("base", fields={"Essential": "yes"}),
            Package("dkms"),
            *(
                Package(name, f"580.{minor}-0ubuntu1", fields={"Source": "nvidia"})
                for minor in (65, 95)
                for name in ("nvidia-dkms-580", "nvidia-kernel-source-580", "smi")
            ),
        ]
    )
    request = DriverRequest(
        "580",
        "proprietary",
        "nvidia-dkms-580",
        "smi",
        ["nvidia"],
        [],
        source_packages=["nvidia-kernel-source-580"],
    )
    older = driver_fit.candidates(root, [request])[1]
    build = driver_fit.module_build(
        root,
        Kernel(release="6", package="linux-image-6", version="1"),
        older,
        suite="stable",
        signature=None,
    )
    source = next(deb for deb in build.toolchain if deb.name == "nvidia-kernel-source-580")
    assert (build.source.version, source.version) == ("580.65-0ubuntu1",) * 2


def test_modules_that_are_ahead_of_user_space_are_no_candidates(resolver: Resolver) -> None:
    half = resolver.root(
        [
            Package("nvidia-kernel-dkms", "535.309.01-1"),
            Package("nvidia-kernel-dkms", "535.261.03-1"),
            Package("nvidia-smi", "535.261.03-1"),
        ]
    )
    reason = "nvidia-kernel-dkms has it, but nvidia-smi does not: half a driver"
    assert versions(driver_fit.candidates(half, [REQUEST])) == ["535.261.03"]
    fitted = driver_fit.fit(half, [REQUEST], KERNELS, compile_pair=compiling(lambda *_: True))
    assert fitted.choices[1].passed_over == [PassedOver(what="535.309.01", reason=reason)]
    with pytest.raises(NoFit, match=f"no driver of branch 535: 535.309.01: {reason}"):
        driver_fit.candidates(
            resolver.root([Package("nvidia-kernel-dkms", "535.309.01-1")]), [REQUEST]
        )


TESLA = DriverRequest(
    branch="535",
    flavour="proprietary",
    dkms_package="nvidia-tesla-535-kernel-dkms",
    userland_package="libnvidia-tesla-535-cuda1",
    pinned_sources=["nvidia-graphics-drivers-tesla-535"],
    provides=["nvidia-tesla-535-kernel-VERSION"],
)
PLAIN = DriverRequest(
    branch="550",
    flavour="proprietary",
    dkms_package="nvidia-kernel-dkms",
    userland_package="libcuda1",
    pinned_sources=["nvidia-graphics-drivers"],
    provides=["nvidia-kernel-VERSION"],
)


@pytest.fixture
def families(resolver: Resolver) -> AptRoot:
    return resolver.root(
        [
            Package("nvidia-kernel-dkms", "550.163.01-2"),
            Package("libcuda1", "550.163.01-2"),
            Package("nvidia-tesla-535-kernel-dkms", "535.274.02-1~deb13u1"),
            Package("libnvidia-tesla-535-cuda1", "535.274.02-1~deb13u1"),
        ]
    )


def test_the_newest_branch_that_compiles(families: AptRoot) -> None:
    found = driver_fit.candidates(families, [TESLA, PLAIN])
    assert [(candidate.version, candidate.request.branch) for candidate in found] == [
        ("550.163.01", "550"),
        ("535.274.02", "535"),
    ]
    assert found[1].pins == {"src:nvidia-graphics-drivers-tesla-535:any": "535.274.02-*"}
    newest = driver_fit.fit(
        families, [TESLA, PLAIN], KERNELS, compile_pair=compiling(lambda *_: True)
    )
    assert (newest.driver, newest.choices[1].passed_over) == ("550.163.01", [])
    older = driver_fit.fit(
        families, [TESLA, PLAIN], KERNELS, compile_pair=compiling(lambda _, driver: driver < "550")
    )
    assert (older.kernel, older.driver, older.pins) == (KERNELS[0], "535.274.02", found[1].pins)
    assert older.choices[1].passed_over == [failed("550.163.01")]
    gone = DriverRequest("560", "proprietary", "nvidia-tesla-560-kernel-dkms", "x", [], [])
    assert versions(driver_fit.candidates(families, [gone, TESLA])) == ["535.274.02"]
    with pytest.raises(NoFit, match=r"branch 560: nvidia-tesla-560-.* exists as no version at all"):
        driver_fit.candidates(families, [gone])


def test_open_modules_come_before_proprietary_ones_of_the_same_driver(resolver: Resolver) -> None:
    root = resolver.root(
        [
            Package("nvidia-kernel-dkms", "550.163.01-2"),
            Package("nvidia-open-kernel-dkms", "550.163.01-2"),
            Package("libcuda1", "550.163.01-2"),
        ]
    )
    opened = dataclasses.replace(PLAIN, flavour="open", dkms_package="nvidia-open-kernel-dkms")
    found = driver_fit.candidates(root, [opened, TESLA, PLAIN])
    assert [candidate.request.flavour for candidate in found] == ["open", "proprietary"]
    fitted = driver_fit.fit(root, [opened, PLAIN], KERNELS, compile_pair=compiling(lambda *_: True))
    assert (fitted.flavour, fitted.choices[1].taken) == ("open", "550.163.01")


def kernel(release: str, version: str) -> Kernel:
    return Kernel(release=release, package=f"linux-image-{release}", version=version)


KERNELS = [kernel(f"6.1.0-{abi}", f"6.1.{abi}-1") for abi in (56, 50)]


def test_an_older_driver_comes_before_an_older_kernel(drivers: AptRoot) -> None:
    """Of the branch, in Debian's order of versions."""
    found = driver_fit.candidates(drivers, [REQUEST])
    assert versions(found) == ["535.9.1", "535.261.03", "535.216.03", "535.54.03"]
    assert found[1].pins == {"src:nvidia-graphics-drivers:any": "535.261.03-*"}

    fitted = driver_fit.fit(
        drivers,
        [REQUEST],
        KERNELS,
        compile_pair=compiling(lambda kernel, driver: driver == "535.54.03"),
    )
    assert (fitted.kernel.release, fitted.driver) == ("6.1.0-56", "535.54.03")
    kernel, driver = fitted.choices
    assert (kernel.why, kernel.passed_over) == ("the newest; the driver compiles on it", [])
    assert driver.why == "its proprietary modules compiled on 6.1.0-56 with gcc 12"
    assert driver.passed_over[:3] == [
        failed(version) for version in ("535.9.1", "535.261.03", "535.216.03")
    ]
    assert [entry.what for entry in driver.passed_over[3:]] == ["535.309.01"]

    fitted = driver_fit.fit(
        drivers, [REQUEST], KERNELS, compile_pair=compiling(lambda kernel, _: kernel == "6.1.0-50")
    )
    assert (fitted.kernel.release, fitted.driver) == ("6.1.0-50", "535.9.1")
    kernel, driver = fitted.choices
    assert kernel.why == "the newest on which the driver compiles"
    assert kernel.passed_over[0] == failed("535.9.1")
    assert [entry.what for entry in driver.passed_over] == ["535.309.01"]


def test_an_older_series_gets_its_turn_where_the_newer_one_used_up_the_limit(
    drivers: AptRoot,
) -> None:
    newer = [kernel(f"6.12.{number}", f"6.12.{number}-1") for number in (9, 8, 7)]
    older_only = compiling(lambda kernel, _: kernel.startswith("6.1."))
    fitted = driver_fit.fit(drivers, [REQUEST], newer + KERNELS, compile_pair=older_only)
    assert (fitted.kernel, fitted.driver) == (KERNELS[0], "535.9.1")
    assert len(fitted.choices[0].passed_over) == driver_fit.MAX_COMPILATIONS < len(newer) * 4
    untried = r"on the newest kernels of this release \(4 older pairs were not tried\)$"
    with pytest.raises(NoFit, match=untried) as caught:
        driver_fit.fit(
            drivers, [REQUEST], newer + KERNELS, compile_pair=compiling(lambda *_: False)
        )
    lines = caught.value.tail.splitlines()
    reason = "nv-pci.c:237: error: too few arguments"
    assert lines[0] == f"  driver 535.9.1 (proprietary) on kernel 6.12.9: {reason}"
    assert lines[-1] == "  and 4 older pairs that were not tried"


def test_newer_cuda_is_passed_over_with_what_speaks_against_it(resolver: Resolver) -> None:
    root = resolver.root(
        [
            *(
                Package(f"cuda-cudart-{name}", f"{name.replace('-', '.')}.90-1")
                for name in ("12-6", "12-8", "13-0")
            ),
            Package("libcudart11.0", "11.8.89~11.8.0-5"),
            Package("cuda-cudart-dev-13-1", "13.1.1-1"),
        ]
    )
    assert driver_fit.newer_cuda(root, "12.6", "550.163.01", ["70", "90"], DRIVERS) == [
        PassedOver(
            what="CUDA 13.0",
            reason="CUDA 13.0 does not run on driver 550.163.01: CUDA 13.x needs 580.65.06",
        ),
        PassedOver(what="CUDA 12.8", reason="the definition asks for CUDA 12.6"),
    ]
    assert (
        driver_fit.newer_cuda(root, "12.6", "", ["70"], DRIVERS)[0].reason
        == "CUDA 13.0 compiles for sm_75 to sm_121, not for sm_70"
    )
    assert driver_fit.newer_cuda(root, "13.0", "580.65.06", [], DRIVERS) == []


CALLED = (
    "subprocess.CalledProcessError: Command '['ninja']' returned non-zero exit status 1.\n"
    "error: subprocess-exited-with-error\n"
)
AS_THEY_ARE = (
    "gcc: error: unrecognized command-line option '-mfrob'",
    "/bin/sh: 1: bison: not found",
    "ERROR: modpost: GPL-incompatible module nvidia.ko uses GPL-only symbol 'rcu_read_lock'",
    "Error! Bad return status for module build on kernel: 6.1.0",
    "includes a BUILD_EXCLUSIVE directive",
    "CMake Error at CMakeLists.txt:243 (find_package):",
    "ptxas /tmp/a.ptx, line 12; error   : Not a name of any known instruction: 'frob'",
)
"""Errors of tools other than the compiler, each of which is all that a build says of its end."""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "In file included from /b/nv.h:20,\n                 from /b/nv-pci.c:1:\n"
            "/b/nv.h:9: warning: implicit declaration of function 'x'\n"
            "/b/nvidia/nv-pci.c: In function 'nv_resize':\n"
            "/b/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'\n"
            "/b/nvidia/nv-vm.c:3:1: error: a later one\n"
            "make[3]: *** [scripts/Makefile.build:243: /b/nv-pci.o] Error 1\n",
            "nv-pci.c:237: error: too few arguments to function 'pci_resize_resource'",
        ),
        (
            "c.c:1:10: fatal error: nope.h: No such file or directory\n",
            "c.c:1: error: nope.h: No such file or directory",
        ),
        (
            "d.c: Assembler messages:\nd.c:1: Error: no such instruction: `frobnicate'\n",
            "d.c:1: error: no such instruction: `frobnicate'",
        ),
        (
            "/b/foo.cu(3): warning #20-D: unused\n/b/foo.cu(123): error: text\n",
            "foo.cu:123: error: text",
        ),
        (
            "  Traceback (most recent call last):\n"
            "  build.errors.CMakeNotFoundError: no CMake >=3.28\n",
            "build.errors.CMakeNotFoundError: no CMake >=3.28",
        ),
        *((f"  {line}\n{CALLED}", line) for line in AS_THEY_ARE),
        (
            f"warning: x.pyx:9:3: unused\n/usr/bin/ld: warning: no .note\n{CALLED}",
            CALLED.splitlines()[0],
        ),
        ("Building module(s)...done.\n", "the build failed without an error line"),
    ],
)
def test_the_first_error_of_a_build(output: str, expected: str) -> None:
    assert first_error(output) == expected


NO_SPACE = (
    "/b/nv.c:9:1: fatal error: error writing to /tmp/ccA.s: No space left on device",
    "tee: make.log: Disk quota exceeded",
    "OSError: [Errno 28] No space left on device: '/tmp/x'",
)
NO_MEMORY = (
    "cc1: error: cannot fork: Cannot allocate memory",
    "OSError: [Errno 12] Cannot allocate memory: 'g++'",
    "gcc: fatal error: Killed signal terminated program cc1",
    "cc1: out of memory allocating 65536 bytes after a total of 1351680 bytes",
    "make[3]: *** [scripts/Makefile.build:243: /b/nv-pci.o] Killed",
    "make[2]: *** [Makefile:2: x] Error 137",
    "sh: line 1: 123 Killed g++ -c a.cpp",
    "Killed",
    "FAILED: [code=137] a.o",
    "error: command '/usr/bin/g++' failed with exit code -9",
    "process didn't exit successfully: `rustc` (signal: 9, SIGKILL: kill)",
    "chroot exited with status 137",
)
"""Some of the forms that the patterns know."""


@pytest.mark.parametrize("line", NO_SPACE + NO_MEMORY)
def test_a_build_that_the_machine_ended_says_nothing_of_the_source(line: str) -> None:
    log = f"  CC nv.o\n  {line}\nmake: *** [Makefile:9: all] Error 2\n"
    assert lacks(log, LEAST_FREE_BYTES) == line
    assert denied_memory(log) == (line if line in NO_MEMORY else "")


def test_a_full_disk_is_seen_although_no_message_had_room() -> None:
    assert (
        lacks("  CC nv.o\n", LEAST_FREE_BYTES - 1)
        == f"{LEAST_FREE_BYTES - 1} bytes are free on its disk"
    )


def test_an_error_of_the_source_is_none_of_the_machine() -> None:
    source = (
        "/b/nv.c:9:1: error: too few arguments to function 'f'\n"
        '    9 |   nv_printf("out of memory\\n"); /* Killed: No space left on device */\n'
        '   10 |   log("cicc died due to signal 9"); throw std::bad_alloc();\n'
        "make[3]: *** [scripts/Makefile.build:243: /b/nv.o] Error 1\n"
    )
    assert lacks(source, LEAST_FREE_BYTES) == ""
