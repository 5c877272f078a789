from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from goldenami.core.errors import NoFit
from goldenami.model.supported import compatibility
from goldenami.model.supported.compatibility import DriverBranch, DriverTable
from support.builds.tools import ROOT

DRIVERS = compatibility.load(ROOT)
TODAY = date(2026, 11, 25)


def planted(branch: str, **facts: Any) -> DriverTable:
    """The table with another row of a branch."""
    rows = {**DRIVERS.branches, branch: DriverBranch(**facts)}
    return DRIVERS.model_copy(update={"branches": rows})


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
        ("13.5", "620.70.06", "driver branch 620 has CUDA 13.5"),
    ],
)
def test_cuda_that_runs(cuda: str, driver: str, why: str) -> None:
    assert DRIVERS.check_cuda(cuda, driver) == why


@pytest.mark.parametrize(
    ("cuda", "driver", "needs"),
    [
        ("12.1", "525.60.11", "needs 525.60.13"),
        ("13.0", "575.57.08", "needs 580.65.06"),
    ],
)
def test_cuda_that_does_not_run(cuda: str, driver: str, needs: str) -> None:
    with pytest.raises(NoFit) as caught:
        DRIVERS.check_cuda(cuda, driver)
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
    DRIVERS.check_architectures(cuda, good)
    for sm in bad:
        with pytest.raises(NoFit, match=rf"CUDA {cuda} compiles for .*, not for sm_{sm}$"):
            DRIVERS.check_architectures(cuda, [*good, sm])


@pytest.mark.parametrize("cuda", ["9.2", "14.0"])
def test_architectures_of_an_unknown_cuda(cuda: str) -> None:
    with pytest.raises(NoFit, match=f"what CUDA {cuda} needs is not known"):
        DRIVERS.check_architectures(cuda, ["75"])


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


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (date(2027, 2, 23), "driver branch 580 ends on 2027-02-23, in 90 days"),
        (date(2027, 2, 24), ""),
        (date(2026, 11, 24), "driver branch 580 ended on 2026-11-24: no more fixes come"),
        (TODAY, "driver branch 580 ends on 2026-11-25, in 0 days"),
    ],
)
def test_the_end_of_a_branch_is_announced_90_days_ahead(end: date, said: str) -> None:
    assert planted("580", cuda="13.0", ends=end).near_end("580", TODAY) == said


def test_a_branch_whose_end_is_not_known_is_not_passed_over_in_silence() -> None:
    said = "the end of driver branch {0} is not known: add the row `{0}` to `branches` of packer/"
    for branch in ("999", "615"):
        assert DRIVERS.near_end(branch, TODAY).startswith(said.format(branch))
    assert (
        DRIVERS.near_end("550", TODAY)
        == "driver branch 550 has ended, NVIDIA says: no more fixes of its own come"
    )


@pytest.mark.parametrize(
    ("branch", "sms", "said"),
    [
        ("580", ["70", "90"], ""),
        ("590", ["70"], "branch 590 does not run sm_70: 580 was the last branch that does"),
        ("535", ["75", "80", "86", "89", "90"], ""),
        ("550", ["120"], "sm_120: 570 is the first branch that does"),
        ("570", ["120"], ""),
        ("470", ["90"], "sm_90: 520 is the first branch that does"),
    ],
)
def test_which_branch_runs_which_gpu(branch: str, sms: list[str], said: str) -> None:
    assert DRIVERS.branch_refusal(branch, sms).endswith(said)
    assert bool(DRIVERS.branch_refusal(branch, sms)) == bool(said)
