"""The table of instruction sets against the compiler that is here, and the baselines that follow
from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest
from goldenami.core import shell
from goldenami.core.errors import NoFit
from goldenami.model.supported import architectures, instruction_sets
from support.builds import tools

MACROS = {
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "lahf_sahf": "sahf",
    "gcc_have_sync_compare_and_swap_16": "cx16",
}
"""Macros that are not named like their option."""
ARM_MACROS = {
    "ATOMICS": "lse",
    "BF16_SCALAR_ARITHMETIC": "bf16",
    "BF16_VECTOR_ARITHMETIC": "bf16",
    "COMPLEX": "fcma",
    "CRC32": "crc",
    "FP16_FML": "fp16fml",
    "FP16_SCALAR_ARITHMETIC": "fp16",
    "FP16_VECTOR_ARITHMETIC": "fp16",
    "FRINT": "frintts",
    "JCVT": "jscvt",
    "MATMUL_INT8": "i8mm",
    "MEMORY_TAGGING": "memtag",
    "QRDMX": "rdma",
    "SVE2_BITPERM": "sve2-bitperm",
    "SVE_BF16": "bf16",
    "SVE_MATMUL_INT8": "i8mm",
    "SVE_VECTOR_OPERATORS": "sve",
}
"""Those of Arm, by ACLE's names behind __ARM_FEATURE_. SVE's variants follow from SVE and the other
feature."""
UNSEEN = {"mwaitx", "waitpkg", "bti", "pauth"}
"""Features for which some of the supported compilers predefine no macro."""


ARM_GCC = "aarch64-linux-gnu-cpp"


def macros(*options: str, gcc: str = "gcc") -> set[str]:
    """Names of the macros that GCC predefines as 1 for the options."""
    text = shell.output([tools.find(gcc), *options, "-dM", "-E", "-xc", "/dev/null"])
    return set(re.findall(r"#define (__\w+__|__GCC_HAVE\w+|__ARM_FEATURE_\w+) 1\n", text))


def gcc_version(gcc: str = "gcc") -> architectures.GccVersion:
    found = re.match(r"(\d+)\.(\d+)", shell.output([tools.find(gcc), "-dumpfullversion"]))
    assert found is not None
    return int(found[1]), int(found[2])


def x86_features(*options: str) -> set[str]:
    """Features whose macros GCC predefines for options of x86."""
    names = {name.strip("_").lower() for name in macros(*options)}
    known = {name for row in architectures.X86.values() for name in row.adds}
    return {MACROS.get(name, name.replace("_", "-")) for name in names} & known


def arm_features(*options: str) -> set[str]:
    """Features whose macros GCC predefines for options of Arm, without those of each 64-bit CPU and
    LS64, which the table leaves out. One whose macro is not named in ARM_MACROS counts."""
    added = macros(*options, gcc=ARM_GCC) - macros("-mcpu=generic", gcc=ARM_GCC)
    names = {name.removeprefix("__ARM_FEATURE_") for name in added if "_FEATURE_" in name}
    return {ARM_MACROS.get(name, name.lower()) for name in names - {"LS64"}}


@pytest.mark.parametrize(
    ("table", "gcc", "option", "ask", "cpu"),
    [
        *((architectures.X86, "gcc", "-march", x86_features, cpu) for cpu in architectures.X86),
        *((architectures.ARM, ARM_GCC, "-mcpu", arm_features, cpu) for cpu in architectures.ARM),
    ],
)
def test_gcc_agrees_with_the_table(
    table: Mapping[str, architectures.March],
    gcc: str,
    option: str,
    ask: Callable[..., set[str]],
    cpu: str,
) -> None:
    newer = gcc_version(gcc) >= table[cpu].since
    try:
        found = ask(f"{option}={cpu}")
    except shell.CommandFailed as error:
        # An older GCC may know it by a backport.
        assert not newer and re.search("bad value|unknown value", error.output)
    else:
        assert found - UNSEEN == instruction_sets.features(cpu) - UNSEEN


@pytest.mark.parametrize(
    ("cpus", "gcc", "options"),
    [
        (["znver4"], (14, 2), "-march=znver4"),
        (["znver4"], (12, 2), "-march=icelake-server -mavx512bf16 -msse4a -mtune=znver3"),
        (
            ["sapphirerapids", "znver4"],
            (12, 2),
            "-march=icelake-server -mavx512bf16 -mtune=generic",
        ),
        (["cascadelake", "znver2", "znver3"], (12, 2), "-march=skylake -mtune=generic"),
        (["znver1", "znver3"], (12, 2), "-march=znver1 -mtune=generic"),
        (["broadwell", "znver5"], (14, 2), "-march=broadwell -mtune=generic"),
        (["graniterapids"], (12, 2), "-march=sapphirerapids"),
        (["graniterapids"], (14, 2), "-march=graniterapids"),
        (["neoverse-n1", "neoverse-v2"], (12, 2), "-mcpu=neoverse-n1"),
        (["neoverse-v2"], (12, 2), "-mcpu=neoverse-v1"),
        (["neoverse-v3"], (14, 2), "-mcpu=neoverse-v2"),
        (["neoverse-v2", "neoverse-v3"], (15, 1), "-mcpu=neoverse-v2"),
        (["neoverse-v3"], (15, 1), "-mcpu=neoverse-v3"),
    ],
)
def test_the_best_that_all_share(
    cpus: list[str], gcc: architectures.GccVersion, options: str
) -> None:
    found = instruction_sets.baseline(cpus, gcc)
    assert " ".join(found.options) == options
    assert set(found.features) == set.intersection(
        *(set(instruction_sets.features(cpu)) for cpu in cpus)
    )


@pytest.mark.parametrize(
    "cpus", [["znver4"], ["sapphirerapids", "znver4"], ["cascadelake", "znver2"], ["graniterapids"]]
)
def test_gcc_takes_the_options_and_stays_within_the_features(cpus: list[str]) -> None:
    found = instruction_sets.baseline(cpus, gcc_version())
    assert x86_features(*found.options) <= set(found.features)


def test_no_program_runs_on_arm_and_x86() -> None:
    with pytest.raises(NoFit, match="no program runs on both amd64 and arm64") as caught:
        instruction_sets.baseline(["neoverse-n1", "znver3"], (12, 2))
    assert caught.value.hint == "split the image: one for each"
