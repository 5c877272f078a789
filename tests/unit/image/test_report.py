"""The report: its page, fed with good, bad and hostile builds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.image.report import report
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import (
    Check,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.builds.figures import FIGURES_FILE, Figure, FiguresRecord
from goldenami.model.supported.support import DRIVER_MOVE
from support.builds import report_data as data


def outside(html: str) -> list[str]:
    """Everything in a page that a browser would fetch from elsewhere, or run: a link to a file of
    the build is none."""
    found = re.findall(r"<(?:script|link|img|iframe|object|base|form)\b", html)
    found += re.findall(r"<\w[^>]*\s(?:src|srcset|on\w+)=", html)
    found += [
        link
        for link in re.findall(r'href="([^"#][^"]*)"', html)
        if not re.fullmatch(r"(\.\./)?([\w.-]+/)?[\w.-]+", link)
    ]
    style = html.partition("<style>")[2].partition("</style>")[0]
    return found + re.findall(r"url\(|@import|@font-face|https?:", style)


def inaccessible(html: str) -> list[str]:
    """Headers without scope, tables without caption, pictures that are read, ids given twice or
    missing, elements that are not closed."""
    ids = re.findall(r'\bid="([^"]+)"', html)
    found = [f"id {name} twice" for name in sorted(set(ids)) if ids.count(name) > 1]
    found += re.findall(r"<th(?![^>]*scope=)\b[^>]*>", html)
    found += re.findall(r'<svg(?![^>]*aria-hidden="true")[^>]*>', html)
    if html.count("<table") != html.count("<caption"):
        found.append("a table without a caption")
    for tag in set(re.findall(r"</(\w+)>", html)):
        if len(re.findall(rf"<{tag}\b(?![^>]*/>)", html)) != html.count(f"</{tag}>"):
            found.append(f"<{tag}> is not closed")
    named = " ".join(re.findall(r'aria-labelledby="([^"]+)"', html)).split()
    anchors = re.findall(r'href="#([^"]+)"', html)
    return found + [f"no element {name}" for name in (*named, *anchors) if name not in ids]


def rendered(folder: BuildFolder, previous: BuildFolder | None = None) -> str:
    return report.write_report(folder, previous).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> data.Pair:
    return data.write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> data.Pair:
    return data.write_pair(tmp_path_factory.mktemp("failing"), data.FAILING)


# The page


def test_what_lies_beside_the_records_is_shown(pair: data.Pair, tmp_path: Path) -> None:
    folder, previous = data.write_pair(tmp_path)
    said = data.text(rendered(folder, previous))
    assert "no GPU has run this build" in said and "Published" not in said
    short = folder.summary.read_text(encoding="utf-8")
    ended = f"| NVIDIA driver's support | ended 2026-06-30 | branch 535: {DRIVER_MOVE} |"
    assert ended in short and DRIVER_MOVE in said
    region = {
        "ami": "ami-0abc",
        "snapshot": "snap-0abc",
        "channels": ["candidate", "latest"],
        "template": "golden-x",
        "template_version": 3,
    }
    folder.publish.write_text(
        json.dumps(
            {
                "published_at": "2026-11-26T12:00:00Z",
                "account": "123456789012",
                "gpu": "tested on a GPU",
                "regions": {"us-east-1": region},
            }
        ),
        encoding="utf-8",
    )
    folder.log("bake").parent.mkdir(parents=True)
    folder.log("bake").write_text("", encoding="utf-8")
    report.write_report(previous, None)
    page = rendered(folder, previous)
    summary = folder.summary.read_text(encoding="utf-8")
    for text in ("ami-0abc", "snap-0abc", "candidate, latest", "golden-x 3", "123456789012"):
        assert text in data.text(page), text
    assert "no GPU has run this build" not in data.text(page)
    links = set(re.findall(r'href="([^"#][^"]*)"', page))
    assert {
        "lock.json",
        "bake.json",
        "verify.json",
        "publish.json",
        f"../logs/bake-{folder.build_id}.log",
        f"../{previous.build_id}/report.html",
    } == links
    assert all((folder.path / link).exists() for link in links)
    assert "| us-east-1 | `ami-0abc` | candidate, latest | golden-x 3 |" in summary.splitlines()
    assert f"## Since {previous.build_id}" in summary
    folder.publish.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"publish\.json: "):
        report.write_report(folder, previous)


def test_figures_of_both_builds_are_shown(tmp_path: Path) -> None:
    pair = data.write_pair(tmp_path)
    for folder, seconds in zip(pair, (3.5, 3.0), strict=True):
        figure = Figure(name="import of torch", unit="s", machine="c7i.large", values=[seconds] * 5)
        record = FiguresRecord(build_id=folder.build_id, figures=[figure])
        records.write(folder.path / FIGURES_FILE, record)
    said = data.text(rendered(*pair))
    assert "import of torch 3.5 s (+16.7%, noise 0.0%) before: 3 s" in said
    assert re.search(r"Power-on to SSH .{,40} s before", said)


def test_a_failed_comparison_shows_both_sides(tmp_path: Path) -> None:
    check = Check(
        id="kernel/x",
        role="kernel",
        title="Bbr is taken",
        outcome=Outcome.INCORRECT,
        detail="no",
        expected="bbr",
        actual="cubic | reno",
        seconds=1.0,
    )
    folder, previous = data.write_pair(tmp_path, data.FAILING)
    verify = records.read(folder.verify, VerifyRecord).model_copy(update={"checks": [check]})
    records.write(folder.verify, verify)
    assert "Expected bbr Actual cubic | reno" in data.text(rendered(folder, previous))
    assert (
        "| Bbr is taken (`kernel/x`) | incorrect | expected bbr, actual cubic \\| reno: no |"
        in folder.summary.read_text(encoding="utf-8").splitlines()
    )


def test_failures_come_first_with_their_messages(failing: data.Pair) -> None:
    page = rendered(*failing)
    checks = page[page.index('id="checks"') :]
    assert checks.count("<details open") == len({"network_tuning", "provenance", "seal"})
    text = data.text(page)
    assert "4 of 7 checks not correct: 2 incorrect, 1 missing, 1 unreachable" in text
    assert "the running kernel says cubic" in text
    # a role with failures before one without, and in a role the failures before the rest
    assert (
        text.index("the kernel took bbr")
        < text.index("the default qdisc is fq")
        < text.index("nvcc compiles for")
    )
    assert (
        text.index("journals are gone")
        < text.index("no shell history")
        < text.index("machine-id was empty")
    )


def test_what_changed_stands_on_top_and_versions_in_the_open(
    pair: data.Pair, tmp_path: Path
) -> None:
    packages = data.packages_of() | {
        "python3": data.package("3.13.5-1"),
        "git": data.package("1:2.47.3~rc1-0+deb13u1"),
    }
    lock = data.lock(packages=packages)
    text = data.text(
        rendered(data.write_build(tmp_path, data.bake_record(lock), None, lock), pair[1])
    )
    top = text[: text.index("What is inside")]
    assert "NVIDIA driver 535.309.01 before: 535.261.03" in top
    assert "libcuda1" in top and "tzdata" in top
    inside = text[text.index("What is inside") : text.index("Support until")]
    assert "Tools python3 3.13.5, git 2.47.3 " in inside


def test_a_choice_without_another_candidate_is_no_row_of_nothing(tmp_path: Path) -> None:
    plain = {"component": "kernel", "taken": "6.1", "why": "the newest", "passed_over": []}
    weighed = {**plain, "component": "driver", "passed_over": [{"what": "550", "reason": "no GSP"}]}
    lock = data.lock(choices=[plain, weighed, {**plain, "component": "cuda"}])
    page = rendered(data.write_build(tmp_path, data.bake_record(lock), None, lock))
    choices = page[page.index('id="choices"') : page.index('id="charts"')]
    assert choices.count('<tr role="row">') == 2, "a head and one row"
    assert "nothing" not in choices
    said = data.text(page)
    assert "driver 6.1 the newest 550 no GSP kernel 6.1 the newest cuda 6.1 the newest" in said


def test_unverified_build_says_so(tmp_path: Path) -> None:
    lock = data.lock(driver=None, cuda=None, choices=[])
    folder = data.write_build(tmp_path, data.bake_record(lock), None, lock)
    text = data.text(rendered(folder))
    for said in (
        "This disk has not been booted: there is no verify.json. Run make verify "
        f"IMAGE={data.IMAGE}.",
        "Not verified.",
        "The lock records no choice.",
        "There is no previous verified build to compare with.",
    ):
        assert said in text
    assert "Verified" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"checks": [], "boots": []},
            "No check ran (0 boots of the sealed disk under TCG, 3 min 07 s).",
        ),
        ({}, "All 7 checks are correct, yet the verdict was withheld"),
    ],
)
def test_a_verdict_that_was_not_earned_is_not_painted_good(
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
) -> None:
    lock = data.lock()
    bake = data.bake_record(lock)
    verify = data.verify_record(bake, verdict=Verdict.NOT_VERIFIED, **changes)
    html = rendered(data.write_build(tmp_path, bake, verify, lock))
    assert said in data.text(html)
    assert 'class="verdict is-correct"' not in html


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    html = rendered(data.hostile(tmp_path))
    assert (outside(html), inaccessible(html)) == ([], [])
    assert "<script>alert('x')</script>" in data.text(html) and "{{ 7*7 }}" in data.text(html)
    assert html.count("<style>") == html.count("</style>") == 1


def test_page_needs_nothing_else_and_is_accessible(failing: data.Pair) -> None:
    html = rendered(*failing)
    assert (outside(html), inaccessible(html)) == ([], [])
    assert "default-src 'none'; style-src 'unsafe-inline'" in html


def test_equal_records_give_equal_bytes(pair: data.Pair) -> None:
    folder, _ = pair
    assert rendered(*pair) == rendered(*pair)
    assert [path.name for path in folder.path.iterdir() if path.name.startswith(".")] == []
    # A build is no predecessor of itself.
    assert rendered(folder, folder) == rendered(folder)


# Refusals


def test_what_does_not_belong_together_is_refused(tmp_path: Path, pair: data.Pair) -> None:
    folder, old = pair
    lock, other_lock = data.lock(), data.lock(image="debian-13-ml-cpu")
    strange = data.verify_record(data.bake_record(data.previous_lock()))
    mixed = data.write_build(tmp_path / "mixed", data.bake_record(lock), strange, lock)
    other = data.bake_record(other_lock)
    another = data.write_build(tmp_path / "another", other, None, other_lock)
    edited = data.write_build(tmp_path / "edited", data.bake_record(lock), None, other_lock)
    broken = data.write_build(tmp_path / "broken", data.bake_record(lock), None, lock)
    broken.lock.write_text("{", encoding="utf-8")
    for build, previous, said in (
        (edited, None, f"was baked from lock {folder.build_id}, but lock.json is"),
        (mixed, None, f"is of {data.IMAGE} {strange.build_id}, but bake.json of"),
        (folder, another, "is a build of debian-13-ml-cpu, not of debian-13-ml"),
        (folder, edited, "was baked from lock"),
        (old, broken, "lock.json: Expecting property name"),
        (BuildFolder(tmp_path), None, r"bake\.json does not exist"),
    ):
        with pytest.raises(BadInput, match=said):
            report.write_report(build, previous)
