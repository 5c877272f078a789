"""What a new lock moves, and what is told of a run of `watch`."""

from __future__ import annotations

import pytest
from goldenami.core.markdown import cell
from goldenami.model.builds.lockfile import Driver, Kernel, Lock, Package
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.watch.watch_records import (
    ComponentRow,
    LockChange,
    PackageMove,
    SourceStatus,
    WatchRecord,
)
from goldenami.watch.watch_summary import BODY_LIMIT, headline, markdown, table
from support.builds.sample_lock import sample


def package(version: str, installed_size: int = 1024) -> Package:
    return Package(version=version, architecture="all", sha256="0" * 64, size=1,
                   installed_size=installed_size, origin="debian", path="x", source="tool")


def moved() -> tuple[Lock, Lock]:
    """A lock, and the next one: one package newer, one gone, one come."""
    same = package("1")
    return (sample(packages={"tool": package("1.9-1"), "same": same, "gone": same}),
            sample(packages={"tool": package("1:2.0-1", 2048), "same": same, "come": same},
                   kernel=Kernel(release="6.1.0-51-cloud-amd64", package="x", version="6.1.150-1"),
                   driver=Driver(version="535.309.01", branch="535", flavour="open",
                                 source="debian", cuda="12.2", modules=None)))


def test_what_a_new_lock_moves() -> None:
    before, after = moved()
    change = LockChange.between(before, "a" * 64, after, "b" * 64)
    assert (change.build_before, change.build_after) == ("a" * 12, "b" * 12)
    assert change.kernel == ["6.1.0-50-cloud-amd64", "6.1.0-51-cloud-amd64"]
    assert change.driver == ["", "535.309.01"]
    assert [(move.name, move.before, move.after) for move in change.packages] == [
        ("come", "", "1"), ("gone", "1", ""), ("tool", "1.9-1", "1:2.0-1")]
    assert change.installed_bytes == 1024


def row(component: str, verdict: UpdateVerdict, reason: str = "") -> ComponentRow:
    return ComponentRow(image="debian-13-ml", component=component, locked="535.216.03",
                        available="535.309.01", policy="branch", verdict=verdict, reason=reason)


def record(
    *rows: ComponentRow, changes: tuple[LockChange, ...] = (), error: str = ""
) -> WatchRecord:
    return WatchRecord(looked_at="2026-11-25T04:17:00Z", rows=list(rows),
                       warnings=["branch 535 ended"],
                       sources=[SourceStatus(name="debian trixie", changed="2026-11-24T00:00:00Z",
                                             error=error)],
                       changes=list(changes))


def change(*packages: PackageMove) -> LockChange:
    return LockChange(image="debian-13-ml", build_before="a" * 12, build_after="b" * 12, kernel=[],
                      driver=["535.216.03", "535.309.01"], packages=list(packages),
                      installed_bytes=-4096)


@pytest.mark.parametrize(("given", "said"), [
    (record(row("driver", UpdateVerdict.CURRENT)), "nothing newer that matters"),
    (record(row("driver", UpdateVerdict.UPDATE)), "newer for debian-13-ml"),
    (record(row("driver", UpdateVerdict.BLOCKED, "x")),
     "nothing newer that matters; blocked: driver 535.309.01 of debian-13-ml"),
    (record(row("driver", UpdateVerdict.UPDATE), changes=(change(),)), "new lock of debian-13-ml"),
    (record(row("driver", UpdateVerdict.UPDATE), error="down"),
     "newer for debian-13-ml; could not look at debian trixie"),
])
def test_the_headline(given: WatchRecord, said: str) -> None:
    assert headline(given) == said


def test_the_table_is_aligned_and_gives_reasons() -> None:
    lines = table(record(row("driver", UpdateVerdict.BLOCKED, "nv-pci.c:237: error"),
                         row("cuda", UpdateVerdict.CURRENT)))
    assert lines.splitlines() == [
        "image         component  locked      available   policy  verdict",
        "debian-13-ml  driver     535.216.03  535.309.01  branch  blocked", "  nv-pci.c:237: error",
        "debian-13-ml  cuda       535.216.03  535.309.01  branch  current"]


def test_the_markdown_of_a_change() -> None:
    moves = PackageMove(name="libcuda1", before="1", after="2|@x")
    text = markdown(record(row("driver", UpdateVerdict.UPDATE), changes=(change(moves),),
                           error="down"), "https://run")
    for line in ("Reports of the bakes: https://run", "* **warning**: branch 535 ended",
                 "* **could not look**: debian trixie: down",
                 "## debian-13-ml: build aaaaaaaaaaaa to bbbbbbbbbbbb",
                 "* Driver: 535.216.03 to **535.309.01**",
                 "* Installed: 4.00 KiB less",
                 r"| libcuda1 | 1 | 2\|\@x |",
                 "| debian trixie | 2026-11-24T00:00:00Z | down |"):
        assert line in text.splitlines(), line
    assert "Reports of the bakes" not in markdown(record(row("driver", UpdateVerdict.UPDATE)),
                                                  "https://run")


def test_text_of_strangers_addresses_nobody() -> None:
    assert cell("a|b @root #1 `x` <script>\n*y*") == r"a\|b \@root \#1 \`x\` \<script\> \*y\*"


def test_a_summary_is_bounded() -> None:
    moves = [PackageMove(name=f"package{number}", before="1", after="2") for number in range(9000)]
    text = markdown(record(changes=(change(*moves),)))
    assert len(text) == BODY_LIMIT
    assert text.endswith("Shortened: all of it is in watch.json.\n")
