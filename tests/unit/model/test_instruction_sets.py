"""The table of instruction sets against the compiler that is here, and the baselines that follow
from it."""

from __future__ import annotations

import re

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
UNSEEN = {"mwaitx", "waitpkg"}
"""Features for which some of the supported compilers predefine no macro."""


def gcc_version() -> architectures.GccVersion:
    found = re.match(r"(\d+)\.(\d+)", shell.output([tools.find("gcc"), "-dumpfullversion"]))
    assert found is not None
    return int(found[1]), int(found[2])


def predefined(march: str) -> set[str]:
    """Features whose macros GCC predefines for `march`."""
    text = shell.output([tools.find("gcc"), f"-march={march}", "-dM", "-E", "-xc", "/dev/null"])
    names = {
        name.strip("_").lower() for name in re.findall(r"#define (__\w+__|__GCC_HAVE\w+) 1", text)
    }
    known = {name for row in architectures.X86.values() for name in row.adds} - UNSEEN
    return {MACROS.get(name, name.replace("_", "-")) for name in names} & known


@pytest.mark.parametrize("march", architectures.X86)
def test_gcc_agrees_with_the_table(march: str) -> None:
    newer = gcc_version() >= architectures.X86[march].since
    try:
        found = predefined(march)
    except shell.CommandFailed as error:
        assert not newer and "bad value" in error.output  # an older GCC may know it by a backport
    else:
        assert found == instruction_sets.features(march) - UNSEEN


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
    text = shell.output([tools.find("gcc"), *found.options, "-dM", "-E", "-xc", "/dev/null"])
    asked = {
        name.strip("_").lower() for name in re.findall(r"#define (__\w+__|__GCC_HAVE\w+) 1", text)
    }
    known = {name for row in architectures.X86.values() for name in row.adds}
    assert {MACROS.get(name, name.replace("_", "-")) for name in asked} & known <= set(
        found.features
    )


def test_no_program_runs_on_arm_and_x86() -> None:
    with pytest.raises(NoFit, match="no program runs on both amd64 and arm64") as caught:
        instruction_sets.baseline(["neoverse-n1", "znver3"], (12, 2))
    assert caught.value.hint == "split the image: one for each"
