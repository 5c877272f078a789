"""What a new lock moves, and what is told of a run of `watch`."""

from __future__ import annotations

import pytest
from goldenami.core.markdown import cell
from goldenami.model.definitions.update_policy import Mover, UpdateVerdict
from goldenami.model.locked.lockfile import Package
from goldenami.packages.package_diff import PackageMove
from goldenami.watch.sources.source_records import SourceStatus
from goldenami.watch.watch_records import ComponentRow, LockChange, WatchRecord
from goldenami.watch.watch_summary import BODY_LIMIT, headline, markdown


def package(version: str, installed_size: int = 1024) -> Package:
    return Package(
        version=version,
        architecture="all",
        sha256="0" * 64,
        size=1,
        installed_size=installed_size,
        origin="debian",
        path="x",
        source="tool",
    )


def row(component: str, verdict: UpdateVerdict, reason: str = "") -> ComponentRow:
    return ComponentRow(
        image="debian-13-ml",
        component=component,
        locked="535.216.03",
        available="535.309.01",
        policy="branch",
        verdict=verdict,
        reason=reason,
    )


def record(
    *rows: ComponentRow, changes: tuple[LockChange, ...] = (), error: str = ""
) -> WatchRecord:
    return WatchRecord(
        looked_at="2026-11-25T04:17:00Z",
        rows=list(rows),
        warnings=["branch 535 ended"],
        sources=[SourceStatus(name="debian trixie", changed="2026-11-24T00:00:00Z", error=error)],
        changes=list(changes),
    )


def change(*packages: PackageMove) -> LockChange:
    return LockChange(
        image="debian-13-ml",
        build_before="a" * 12,
        build_after="b" * 12,
        kernel=[],
        driver=["535.216.03", "535.309.01"],
        packages=list(packages),
        installed_bytes=-4096,
    )


@pytest.mark.parametrize("mover", Mover)
@pytest.mark.parametrize("verdict", UpdateVerdict)
def test_a_lock_is_made_where_a_new_one_is_what_moves_a_component(
    mover: Mover, verdict: UpdateVerdict
) -> None:
    """Whatever the reason says, which is for people."""
    given = row("driver", verdict, "a person moves it: x").model_copy(update={"mover": mover})
    is_due = (verdict, mover) == (UpdateVerdict.UPDATE, Mover.NEW_LOCK)
    assert given.needs_a_lock is is_due


def test_what_moves_a_component_is_no_part_of_the_file() -> None:
    assert "mover" not in record(row("driver", UpdateVerdict.UPDATE)).model_dump_json()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (record(row("driver", UpdateVerdict.CURRENT)), "nothing newer that matters"),
        (record(row("driver", UpdateVerdict.UPDATE)), "newer for debian-13-ml"),
        (
            record(row("driver", UpdateVerdict.BLOCKED, "x")),
            "nothing newer that matters; blocked: driver 535.309.01 of debian-13-ml",
        ),
        (
            record(row("driver", UpdateVerdict.UPDATE), changes=(change(),)),
            "new lock of debian-13-ml",
        ),
        (
            record(row("driver", UpdateVerdict.UPDATE), error="down"),
            "newer for debian-13-ml; could not look at debian trixie",
        ),
    ],
)
def test_the_headline(given: WatchRecord, said: str) -> None:
    assert headline(given) == said


def test_text_of_strangers_addresses_nobody() -> None:
    assert cell("a|b @root #1 `x` <script>\n*y*") == r"a\|b \@root \#1 \`x\` \<script\> \*y\*"


def test_a_summary_is_bounded() -> None:
    moves = [PackageMove(name=f"package{number}", before="1", after="2") for number in range(9000)]
    text = markdown(record(changes=(change(*moves),)))
    assert len(text) == BODY_LIMIT
    assert text.endswith("Shortened: all of it is in watch.json.\n")
