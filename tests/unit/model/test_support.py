"""Until when parts of an image get fixes: the tables, held against locks and days."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from goldenami.model.supported import support
from goldenami.model.supported.platforms import RELEASES
from goldenami.model.supported.support import SupportState
from support import trees
from support.builds import report_data as data
from support.builds.tools import ROOT

LOCKS = trees.scanned(5, ROOT, "packer/locks/*.lock.json")
END = date(2026, 6, 30)


def part(name: str, **changes: object) -> support.PartSupport:
    return next(one for one in support.of_lock(ROOT, data.lock(**changes)) if one.part == name)


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [
        (-91, SupportState.SUPPORTED, "supported until 2026-06-30"),
        (-90, SupportState.ENDING, "ends 2026-06-30, in 90 days"),
        (0, SupportState.ENDING, "ends 2026-06-30, in 0 days"),
        (1, SupportState.ENDED, "ended 2026-06-30"),
    ],
)
def test_a_part_is_supported_until_its_last_day(days: int, state: SupportState, words: str) -> None:
    driver, day = part("NVIDIA driver"), END + timedelta(days=days)
    assert bool(driver.advice(day)) == (state is not SupportState.SUPPORTED)
    assert driver.ends == END
    assert (driver.state(day), driver.words(day)) == (state, words)


def test_a_branch_that_ended_without_a_date_and_one_that_nobody_knows() -> None:
    ended = part("NVIDIA driver", driver={"version": "550.163.01", "branch": "550"})
    assert ended.words(END) == "ended, the day is not known"
    assert ended.advice(END) == support.DRIVER_MOVE
    new = part("NVIDIA driver", driver={"version": "999.1", "branch": "999"})
    assert (new.state(END), new.words(END)) == (SupportState.UNKNOWN, "not known")
    assert new.advice(END) == ""


def test_cuda_ends_with_the_driver_branch_that_it_came_with() -> None:
    assert part("CUDA", cuda={"version": "12.8.1"}).ends == date(2026, 2, 28)
    assert part("CUDA", cuda={"version": "77.7"}).state(END) is SupportState.UNKNOWN


def test_ubuntu_keeps_its_kernel_as_long_as_the_release() -> None:
    base = data.lock()["base"] | {"distribution": "ubuntu", "release": "noble"}
    kernel = {"release": "6.8.0-1020-aws", "version": "1", "package": "x"}
    assert part("Kernel", base=base, kernel=kernel).ends == RELEASES["noble"].last
    assert part("Kernel", kernel=kernel).state(END) is SupportState.UNKNOWN, (
        "Debian has no kernel 6.8"
    )


def test_every_part_of_a_committed_lock_has_its_dates() -> None:
    for path in LOCKS:
        for one in support.of_lock(ROOT, json.loads(path.read_text(encoding="utf-8"))):
            assert one.source and (one.ends or one.over or one.part == "CUDA"), (
                f"{path.name}: {one}"
            )
