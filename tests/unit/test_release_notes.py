from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from goldenami.core.markdown import cell
from goldenami.model.builds.lockfile import Driver, Kernel, Lock, Package
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.packages.store import Store
from goldenami.watch import release_notes
from goldenami.watch.watch_records import (
    ChangelogEntry,
    ComponentRow,
    LockChange,
    SourcePackageChange,
    SourceStatus,
    WatchRecord,
)
from goldenami.watch.watch_summary import BODY_LIMIT, LOG_LINES, headline, markdown, table
from support.builds.sample_lock import sample
from support.files import write

LOG = """tool (1:2.0-1) trixie-security; urgency=high

  * Do not trust a length (CVE-2026-1111, CVE-2026-22222).
  * DSA-5999-1.

 -- Nobody <nobody@localhost>  Tue, 24 Nov 2026 10:00:00 +0000

tool (1:2.0~rc1-1) trixie; urgency=medium

  * The first of the second.

 -- Nobody <nobody@localhost>  Mon, 23 Nov 2026 10:00:00 +0000

tool (1.9-1) trixie; urgency=low

  * Locked (CVE-2020-3333).

 -- Nobody <nobody@localhost>  Tue, 24 Nov 2020 10:00:00 +0000
"""


def package_file(folder: Path, name: str, log: str, *, link: str = "") -> Path:
    """A real package with its changelog, or with a link to another package's documentation."""
    tree, docs = folder / name, folder / name / "usr/share/doc"
    write(tree, {"DEBIAN/control": f"Package: {name}\nVersion: 1\nArchitecture: all\n"
                                   "Maintainer: T <t@localhost>\nDescription: x\n"})
    docs.mkdir(parents=True)
    if link:
        (docs / name).symlink_to(link)
    else:
        (docs / name).mkdir()
        (docs / name / "changelog.Debian.gz").write_bytes(gzip.compress(log.encode()))
    target = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(tree), str(target)],
                   check=True,
                   capture_output=True)
    return target


def packages(store: Store, version: str, folder: Path | None) -> dict[str, Package]:
    """libtool, which has a link only, and tool; from files if there is a folder."""
    found = {}
    for name in ("libtool", "tool"):
        sha = store.add(folder / f"{name}.deb") if folder else "0" * 64
        found[name] = Package(version=version, architecture="all", sha256=sha,
                              size=10 if name == "libtool" else 20,
                              installed_size=1024, origin="debian", path="x", source="tool")
    return found


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Lock, Lock, Store]:
    store = Store(tmp_path / "cache")
    package_file(tmp_path, "tool", LOG)
    package_file(tmp_path, "libtool", "", link="tool")
    same = Package(version="1", architecture="all", sha256="2" * 64, size=5, installed_size=1,
                   origin="debian",
                   path="y", source="same")
    before = sample(packages={**packages(store, "1.9-1", None), "same": same, "gone": same})
    after = sample(packages={**packages(store, "1:2.0-1", tmp_path), "same": same, "come": same},
                   kernel=Kernel(release="6.1.0-51-cloud-amd64", package="x", version="6.1.150-1"),
                   driver=Driver(version="535.309.01", branch="535", flavour="open",
                                 source="debian", cuda="12.2",
                                 modules=None))
    return before, after, store


def test_what_a_new_lock_moves(moved: tuple[Lock, Lock, Store]) -> None:
    before, after, store = moved
    change = release_notes.compare(before, "a" * 64, after, "b" * 64, store)
    assert (change.build_before, change.build_after) == ("a" * 12, "b" * 12)
    assert change.kernel == ["6.1.0-50-cloud-amd64", "6.1.0-51-cloud-amd64"]
    assert change.driver == ["", "535.309.01"]
    assert (change.added, change.removed) == (["come 1"], ["gone 1"])
    [tool] = change.moved
    assert (tool.source, tool.packages, tool.before, tool.after) == (
        "tool",
        ["libtool", "tool"],
        "1.9-1",
        "1:2.0-1",
    )
    assert [entry.version for entry in tool.entries] == ["1:2.0-1", "1:2.0~rc1-1"]
    assert (
        tool.entries[0].text
        == "  * Do not trust a length (CVE-2026-1111, CVE-2026-22222).\n  * DSA-5999-1."
    )
    assert tool.advisories == ["CVE-2026-1111", "CVE-2026-22222", "DSA-5999-1"]


def test_a_package_without_a_readable_changelog(
    moved: tuple[Lock, Lock, Store], tmp_path: Path
) -> None:
    before, after, store = moved
    for path in (store.path(package.sha256) for package in after.packages.values()):
        if path.exists():
            path.write_bytes(path.read_bytes()[:200])
    [tool] = release_notes.compare(before, "a" * 64, after, "b" * 64, store).moved
    assert (tool.entries, tool.advisories) == ([], [])
    for path in tmp_path.glob("cache/store/??/*"):
        path.unlink()
    assert release_notes.compare(before, "a" * 64, after, "b" * 64, store).moved[0].entries == []


SIGNED = """linux-signed-amd64 (6.1.192+2) trixie-security; urgency=high

  * Sign kernel from linux 6.1.192-2
  * ext4: fix NULL folio dereference (CVE-2026-4444)

 -- Nobody <nobody@localhost>  Tue, 24 Nov 2026 10:00:00 +0000

linux (6.1.192-1) trixie-security; urgency=high

  * io-wq: order the exit bit (CVE-2026-5555)

 -- Nobody <nobody@localhost>  Mon, 23 Nov 2026 10:00:00 +0000

linux (6.1.140-1) trixie; urgency=low

  * Locked (CVE-2020-3333).

 -- Nobody <nobody@localhost>  Tue, 24 Nov 2020 10:00:00 +0000
"""


def kernel(abi: str, version: str, sha256: str = "0" * 64) -> dict[str, Package]:
    name = f"linux-image-{abi}-cloud-amd64"
    return {name: Package(version=version, architecture="amd64", sha256=sha256, size=10,
                          installed_size=1024,
                          origin="debian", path=name, source="linux-signed-amd64")}


def test_a_kernel_of_another_name_is_the_next_version_of_its_source(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    after = kernel("6.1.0-56", "6.1.192-2",
                   store.add(package_file(tmp_path, "linux-image-6.1.0-56", SIGNED)))
    change = release_notes.compare(sample(packages=kernel("6.1.0-50", "6.1.140-1")), "a" * 64,
                                   sample(packages=after), "b" * 64, store)
    [moved] = change.moved
    assert (moved.source, moved.before, moved.after) == (
        "linux-signed-amd64",
        "6.1.140-1",
        "6.1.192-2",
    )
    assert moved.packages == ["linux-image-6.1.0-56-cloud-amd64"]
    assert [entry.version for entry in moved.entries] == ["6.1.192+2", "6.1.192-1"]
    assert moved.advisories == ["CVE-2026-4444", "CVE-2026-5555"]
    assert (change.added, change.removed) == ([], [])


# --- the summary ------------------------------------------------------------------------------------------------------

def row(component: str, verdict: UpdateVerdict, reason: str = "") -> ComponentRow:
    return ComponentRow(image="debian-13-ml", component=component, locked="535.216.03",
                        available="535.309.01",
                        policy="branch", verdict=verdict, reason=reason)


def record(
    *rows: ComponentRow, changes: tuple[LockChange, ...] = (), error: str = ""
) -> WatchRecord:
    return WatchRecord(looked_at="2026-11-25T04:17:00Z", rows=list(rows),
                       warnings=["branch 535 ended"],
                       sources=[SourceStatus(name="debian trixie", changed="2026-11-24T00:00:00Z",
                                             error=error)],
                       changes=list(changes))


def change(*entries: ChangelogEntry) -> LockChange:
    moved = SourcePackageChange(source="nvidia-graphics-drivers", packages=["libcuda1"], before="1",
                                after="2",
                                entries=list(entries),
                                advisories=["CVE-2026-1"] if entries else [])
    return LockChange(image="debian-13-ml", build_before="a" * 12, build_after="b" * 12, kernel=[],
                      driver=["535.216.03", "535.309.01"], moved=[moved], added=[], removed=[],
                      installed_bytes=-4096,
                      download_bytes=1 << 20)


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
    text = markdown(
        record(
            row("driver", UpdateVerdict.UPDATE),
            changes=(change(ChangelogEntry(version="2", date="today", text="  * Fix")),),
        ),
        "https://run",
    )
    assert "Reports of the bakes: https://run\n" in text
    assert "## debian-13-ml: build aaaaaaaaaaaa to bbbbbbbbbbbb\n" in text
    assert "* Driver: 535.216.03 to **535.309.01**\n" in text
    assert "* Advisories named in changelogs: CVE-2026-1\n" in text
    assert "* Installed: 4.00 KiB less; to download: 1.00 MiB more\n" in text
    assert "```text\n2  today\n  * Fix\n```\n" in text
    assert "| debian trixie | 2026-11-24T00:00:00Z | read |" in text
    assert "Reports of the bakes" not in markdown(record(row("driver", UpdateVerdict.UPDATE)),
                                                  "https://run")
    assert "No changelog in the package." in markdown(record(changes=(change(),)))


def test_text_of_strangers_addresses_nobody_and_ends_no_block() -> None:
    assert cell("a|b @root #1 `x` <script>\n*y*") == r"a\|b \@root \#1 \`x\` \<script\> \*y\*"
    text = markdown(record(changes=(change(ChangelogEntry(version="2", date="",
                                                          text="```\n@everyone\n````\n# no heading")),)))
    assert "`````text\n2  \n```\n@everyone\n````\n# no heading\n`````\n" in text


def test_a_summary_is_bounded() -> None:
    lines = "\n".join(f"  * Change {number}" for number in range(500))
    one = change(ChangelogEntry(version="2", date="", text=lines))
    assert f"... and {501 - LOG_LINES} more lines" in markdown(record(changes=(one,)))
    text = markdown(record(changes=(one,) * 200))
    assert len(text) <= BODY_LIMIT
    assert text.endswith("Shortened: all of it is in watch.json.\n")
