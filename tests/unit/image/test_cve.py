"""The vulnerability gate: public lists over HTTP in their real form, good and bad, and what stops a
build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from goldenami.core import clock, records
from goldenami.core.errors import NotVerified, Unreachable
from goldenami.image.cve import cve, debian_tracker, feeds, nvidia_bulletins, osv, waivers
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Feed, Vulnerability
from goldenami.model.definitions import definition_file
from goldenami.model.supported import compatibility
from goldenami.model.supported.scales import Rating
from goldenami.packages.store import Store
from goldenami.release.publish import release_gate
from support.builds import builds
from support.builds.tools import ROOT
from support.security import lists, materials
from support.security.lists import ListServer, State

IMAGE = "debian-13-ml-frameworks"
"""Debian's packages and wheels, no driver."""
GPU_IMAGE = "debian-13-ml"
"""With a driver, whose branch has ended."""
BASH = {"trixie": {"bash": ["5.2-1"]}}
DRIVERS = compatibility.load(ROOT)


class Bench:
    """A checkout with one build, asked against the lists of a server. `reset` makes it as new."""

    def __init__(self, root: Path, image: str = IMAGE) -> None:
        self.root, self.server = builds.copy_definitions(root), ListServer()
        self.lock = materials.committed(image)
        self.definition = definition_file.path_of(root, image)
        self.text = self.definition.read_text(encoding="utf-8")
        materials.stock(Store(root / "cache"), self.lock)
        self.build: BuildFolder = materials.build(root, self.lock)

    def reset(self) -> None:
        self.server.lists, self.server.changed = lists.quiet(), lists.NOON
        self.definition.write_text(self.text, encoding="utf-8")
        (self.root / waivers.PATH).write_text("waivers: []\n", encoding="utf-8")
        (self.build.path / CVE_FILE).unlink(missing_ok=True)

    def ask(self, code: int, *options: str) -> str:
        ran = builds.golden(self.root, "cve", self.lock.image, *self.server.options, *options)
        assert ran.code == code, ran.text
        return ran.text

    @property
    def record(self) -> CveRecord:
        return records.read(self.build.path / CVE_FILE, CveRecord)

    def known(self, state: State | None = None) -> None:
        """The tracker knows a vulnerability of bash, by default one that a newer version mends."""
        version = self.lock.packages["bash"].version
        state = state or lists.release("resolved", f"{version}+deb13u9")
        self.server.lists[Feed.DEBIAN] = lists.tracker({"bash": {"CVE-2026-0001": state}})

    def waive(self, **changes: object) -> None:
        row = {
            "id": "CVE-2026-0001",
            "kind": "vulnerability",
            "images": [IMAGE],
            "status": "in_triage",
            "reason": "somebody looks at it",
            "expires": lists.TODAY + timedelta(days=60),
            "by": "Ada",
        } | changes
        text = "".join(f"  {key}: {value}\n" for key, value in row.items() if value is not None)
        (self.root / waivers.PATH).write_text(f"waivers:\n- {text.lstrip()}", encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bench]]:
    benches = {
        image: Bench(tmp_path_factory.mktemp("checkout"), image) for image in (IMAGE, GPU_IMAGE)
    }
    yield benches
    for bench in benches.values():
        bench.server.close()


def ready(bench: Bench, patch: pytest.MonkeyPatch) -> Bench:
    patch.setenv("GOLDEN_CACHE", str(bench.root / "cache"))
    patch.setattr(clock, "now", lambda: lists.NOON)
    bench.reset()
    return bench


@pytest.fixture
def bench(made: dict[str, Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    return ready(made[IMAGE], monkeypatch)


def test_a_build_that_nothing_is_known_against_passes(bench: Bench) -> None:
    # A damaged record is made again.
    (bench.build.path / CVE_FILE).write_text('{"image": ', encoding="utf-8")
    bench.ask(0)
    assert bench.record.outcome is Outcome.CORRECT
    statuses = {status.feed: status for status in bench.record.feeds}
    assert statuses.keys() == {Feed.KEV, Feed.DEBIAN, Feed.PYPI}, "no driver, no Ubuntu"
    digest = hashlib.sha256(bench.server.lists[Feed.DEBIAN]).hexdigest()
    assert statuses[Feed.DEBIAN].sha256 == digest
    assert (statuses[Feed.KEV].entries, statuses[Feed.KEV].dated) == (lists.FILLING, lists.TODAY)


def test_without_a_build_the_lock_is_asked_and_of_all_images_one_answer_comes(bench: Bench) -> None:
    bench.known()
    away = bench.build.bake.with_suffix(".away")
    bench.build.bake.rename(away)
    try:
        assert f"{bench.build.build_id} (by its lock): 1 known" in bench.ask(6)
        # The store has no other image's packages.
        ran = builds.golden(bench.root, "cve", *bench.server.options)
    finally:
        away.rename(bench.build.bake)
    assert ran.code == 6, "what is known of one image outranks what is not known of another"
    assert "vulnerabilities that stop it" in ran.text
    assert "debian-13-ml-cpu: the store has no " in ran.text
    assert builds.golden(bench.root, "cve", "--build", "0" * 12).code == 2


def test_where_no_list_is_there_nothing_was_compared(
    made: dict[str, Bench],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That a branch of the driver has ended is known without a list."""
    whole, gpu_bench = lists.quiet(), ready(made[GPU_IMAGE], monkeypatch)
    for left, code in (([], 4), ([Feed.KEV], 4), ([Feed.DEBIAN], 6), ([*whole], 6)):
        gpu_bench.reset()
        gpu_bench.server.lists = {feed: whole[feed] for feed in left}
        said = gpu_bench.ask(code)
        assert "driver-branch-550" in [one.id for one in gpu_bench.record.findings]
        assert "driver-branch-550  nvidia" in said, "it is said all the same"
        assert ("nothing was compared" in said) == (code == 4)


def test_what_a_newer_package_mends_stops_a_build(bench: Bench) -> None:
    state = lists.release("resolved", "99") | {"nodsa": "<script>alert(1)</script>"}
    bench.known(state)
    bench.build.report.write_text("an older page", encoding="utf-8")
    said = bench.ask(6)
    assert "CVE-2026-0001  bash" in said and "mended by 99" in said
    assert bench.record.findings[0].stops
    with pytest.raises(ValueError, match="outcome is correct, but"):
        CveRecord.model_validate(bench.record.model_dump() | {"outcome": Outcome.CORRECT})
    vex = (bench.build.path / cve.VEX_FILE).read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(vex) is None
    [row] = json.loads(vex)["vulnerabilities"]
    assert row["analysis"]["state"] == "exploitable" and "#bash-" in row["affects"][0]["ref"]
    page = bench.build.report.read_text(encoding="utf-8")
    bench.build.report.unlink()
    section = page.partition('<section id="vulnerabilities"')[2]
    section = section.partition('<section id="difference"')[0]
    assert "CVE-2026-0001" in section and "stops a publish" in section
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in section


@pytest.mark.parametrize(
    ("rating", "exploited", "fails"),
    [
        (Rating.UNKNOWN, False, False),
        (Rating.UNKNOWN, True, True),
        (Rating.MEDIUM, False, False),
        (Rating.HIGH, False, True),
        (Rating.CRITICAL, False, True),
    ],
)
def test_what_nothing_mends_stops_by_rating_or_use(
    bench: Bench,
    rating: Rating,
    exploited: bool,
    fails: bool,
) -> None:
    bench.known(lists.release("open", urgency=rating))
    bench.server.lists[Feed.KEV] = lists.kev("CVE-2026-0001" if exploited else "CVE-2026-0002")
    bench.ask(6 if fails else 0)
    [found] = bench.record.findings
    assert (found.rating, found.fails, found.exploited) == (rating, fails, exploited)


def tracked(state: State, version: str = "5.2-1") -> list[Vulnerability]:
    data = lists.tracker({"bash": {"CVE-2026-1": state}})
    return list(debian_tracker.parse(data, {"trixie": {"bash": [version]}}).found)


def test_the_tracker_rates_and_leaves_out() -> None:
    for urgency, rating in (
        ("high**", Rating.HIGH),
        ("end-of-life", Rating.HIGH),
        ("low", Rating.LOW),
        ("not yet assigned", Rating.UNKNOWN),
    ):
        [found] = tracked(lists.release("open", urgency=urgency))
        assert found.rating == rating, urgency
    assert [one.detail for one in tracked(lists.release("undetermined"))] == ["undetermined"]
    assert tracked(lists.release("open", urgency="unimportant")) == []
    assert tracked(lists.release("resolved", "0")) == [], "it never was in this release"
    for version, fixed, affected in (("1:1.0-1", "1.5-1", False), ("1.0~rc1-1", "1.0-1", True)):
        assert bool(tracked(lists.release("resolved", fixed), version)) is affected


def pypi(data: bytes, **wanted: str) -> list[Vulnerability]:
    versions = {name.replace("_", "-"): [version] for name, version in wanted.items()}
    return list(osv.parse(data, Feed.PYPI, {osv.PYPI: versions}).found)


def test_a_list_of_another_form_is_never_good_news() -> None:
    half = b'{"dateReleased": "2026-01-01", "count": 9, "vulnerabilities": []}'
    for read, data, said in (
        (
            lambda data: debian_tracker.parse(data, BASH),
            lists.tracker({})[:-40],
            "is no tracker's data",
        ),
        (
            lambda data: debian_tracker.parse(data, BASH),
            b"<html>busy</html>",
            "is no tracker's data",
        ),
        (
            lambda data: debian_tracker.parse(data, BASH),
            lists.tracker({}, ("bookworm",)),
            "no entry of trixie",
        ),
        (pypi, lists.osv()[:-30], "is no list of OSV's"),
        (pypi, lists.osv(ecosystem="npm"), "no entry of PyPI"),
        (feeds.exploited, half, "states 9 entries and has 0"),
        (feeds.exploited, b"[]", "is no catalogue"),
    ):
        with pytest.raises(Unreachable, match=said):
            read(data)


@pytest.mark.parametrize(
    ("feed", "data", "said"),
    [
        (Feed.DEBIAN, None, "answered 404"),
        (Feed.DEBIAN, b"{}", "has no entry of"),
        (Feed.PYPI, lists.osv(modified=lists.TODAY - timedelta(days=30)), "is stale"),
        (Feed.KEV, lists.kev(released=lists.TODAY - timedelta(days=90)), "is stale"),
    ],
)
def test_a_list_that_cannot_be_used_makes_the_outcome_unreachable(
    bench: Bench,
    feed: Feed,
    data: bytes | None,
    said: str,
) -> None:
    bench.server.lists.pop(feed)
    bench.server.lists |= {feed: data} if data else {}
    # What it excuses may be unseen.
    bench.waive(images=[IMAGE] if feed is Feed.DEBIAN else [GPU_IMAGE])
    assert said in bench.ask(4)
    assert bench.record.outcome is Outcome.UNREACHABLE
    assert [status.feed for status in bench.record.feeds if status.error] == [feed]


def test_a_list_that_shrinks_or_goes_backwards_is_not_believed(bench: Bench) -> None:
    bench.ask(0)
    whole = bench.server.lists[Feed.DEBIAN]
    half = json.loads(whole)
    half["filling"] = dict(list(half["filling"].items())[:100])
    bench.server.lists[Feed.DEBIAN] = json.dumps(half).encode()
    for _ in range(2):  # the one that was refused is not what the next one is held against
        assert "has shrunk: 100 entries, the last one had 200" in bench.ask(4)
    bench.server.lists[Feed.DEBIAN] = whole
    bench.server.changed = lists.NOON - timedelta(days=2)
    assert "goes backwards" in bench.ask(4)


def test_a_list_has_the_digest_that_was_asked_for(bench: Bench) -> None:
    digest = hashlib.sha256(bench.server.lists[Feed.KEV]).hexdigest()
    place = next(word for word in bench.server.options if word.startswith("kev="))
    bench.ask(0, "--data", f"{place}#sha256={digest}")
    said = bench.ask(4, "--data", f"{place}#sha256={'0' * 64}")
    assert f"has SHA-256 {digest[:12]}, not 000000000000" in said
    assert "did you mean `debian`?" in bench.ask(2, "--data", "debain=x")


def test_a_waiver_lets_one_finding_pass_until_it_ends(bench: Bench) -> None:
    bench.known()
    bench.waive(status="not_affected", justification="code_not_present")
    bench.ask(0)
    assert bench.record.findings[0].waived.endswith("says Ada: somebody looks at it")
    vex = json.loads((bench.build.path / cve.VEX_FILE).read_text(encoding="utf-8"))
    [row] = vex["vulnerabilities"]
    assert row["analysis"] == {
        "state": "not_affected",
        "justification": "code_not_present",
        "detail": "somebody looks at it",
    }
    bench.waive(expires=lists.TODAY)
    said = bench.ask(0)
    assert "warning: " in said and "in 0 days" in said


def test_a_waiver_that_is_wrong_names_its_line(bench: Bench) -> None:
    bench.known()
    late, past = lists.TODAY + timedelta(days=91), lists.TODAY - timedelta(days=1)
    for changes, said in (
        ({"id": "CVE-2026-9999"}, "waivers.1.id: CVE-2026-9999 excuses nothing"),
        ({"images": ["debian-13-ml-framework"]}, "did you mean `debian-13-ml-frameworks`?"),
        ({"kind": "vulnerabilty"}, "waivers.1.kind"),
        ({"stauts": "x"}, "did you mean `status`?"),
        ({"expires": past}, "waivers.1.expires: the waiver of CVE-2026-0001 expired"),
        ({"expires": late}, "is more than 90 days ahead, the most for in_triage"),
        ({"status": "resolved"}, "waivers.1.status: resolved is none of in_triage, "),
        ({"status": "not_affected"}, "not_affected needs a justification"),
        ({"justification": "code_not_present"}, "not_affected needs a justification"),
        ({"reason": "short"}, "waivers.1.reason"),
        ({"by": None}, "waivers.1.by: is required"),
    ):
        bench.waive(**changes)
        answer = bench.ask(2)
        assert "packer/waivers.yml:" in answer and said in answer, answer


def driver(version: str, *bulletins: dict[str, Any], sm: str = "86") -> dict[str, Vulnerability]:
    data = nvidia_bulletins.parse(
        lists.bulletins(*(bulletins or lists.NVIDIA)), version, [sm], DRIVERS
    )
    return {one.id: one for one in data.found}


def test_bulletins_say_which_drivers_are_affected() -> None:
    assert driver("535.309.01") == {}
    assert driver("535.261.03").keys() == {"CVE-2026-1001", "CVE-2026-1002", "CVE-2026-1003"}
    assert {name: (one.fix, one.rating) for name, one in driver("535.288.01").items()} == {
        "CVE-2026-1002": ("535.309.01", Rating.MEDIUM),
        "CVE-2026-1003": ("535.309.01", Rating.CRITICAL),
    }
    data = nvidia_bulletins.parse(lists.bulletins(*lists.NVIDIA), "535.309.01", ["86"], DRIVERS)
    assert (data.entries, data.changed) == (2, lists.TODAY - timedelta(days=20))


def test_a_branch_that_the_newest_bulletin_does_not_name_is_a_finding() -> None:
    for sm, successors in (("86", "580, 595"), ("70", "580")):  # 595 does not run Volta
        [found] = driver("550.163.02", sm=sm).values()
        assert (found.id, found.rating) == ("driver-branch-550", Rating.HIGH)
        assert found.detail.endswith(f"its successors are {successors}")


def test_a_sentence_that_is_not_understood_is_an_error() -> None:
    def said(words: str) -> dict[str, Any]:
        return lists.bulletin(
            5900, lists.TODAY, {"535": "535.400.01"}, {"CVE-2026-1": "LOW"}, words=words
        )

    with pytest.raises(
        Unreachable, match=r"does not say which versions: 'Most versions, but 535\.400\.01'"
    ):
        driver("535.309.01", said("Most versions, but {}"))
    other = lists.bulletin(5901, lists.TODAY, {"535": "1"}, {}, title="Security Bulletin: Jetson")
    with pytest.raises(Unreachable, match="has no bulletin of the GPU display driver"):
        driver("535.309.01", other)
    assert driver("535.400.02", said("All driver versions")).keys() == {"CVE-2026-1"}


@pytest.mark.parametrize(
    ("version", "ranges", "fix"),
    [
        ("2.0", (("0", "2.1"),), "2.1"),
        ("2.1", (("0", "2.1"),), None),
        ("2.0rc1", (("2.0", "2.1"),), None),
        ("3.0", (("0", "2.1"), ("3.0", "")), ""),
        ("2.5", (("0", "2.1"), ("3.0", "")), None),
        ("2.10", (("2.9", "2.11"),), "2.11"),
        ("2.0+cu128", (("0", "2.0.1"),), "2.0.1"),
    ],
)
def test_osv_ranges_are_in_the_order_of_their_ecosystem(
    version: str, ranges: tuple[tuple[str, str], ...], fix: str | None
) -> None:
    entry = lists.osv_entry(
        "GHSA-x",
        "Scikit_Learn",
        *ranges,
        aliases=["CVE-2026-5"],
        database_specific={"severity": "MODERATE"},
    )
    found = pypi(lists.osv(entry), scikit_learn=version)
    assert [(one.id, one.fix, one.rating) for one in found] == (
        [] if fix is None else [("CVE-2026-5", fix, Rating.MEDIUM)]
    )


def test_osv_lists_no_build_of_an_index_of_builds() -> None:
    entry = lists.osv_entry("GHSA-x", "torch", aliases=["CVE-2026-5"])
    entry["affected"][0] |= {
        "versions": ["2.7.0"],
        "ranges": [
            {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "2.7.0"}]}
        ],
    }
    [found] = pypi(lists.osv(entry), torch="2.7.0+cu128")
    assert (found.id, found.version) == ("CVE-2026-5", "2.7.0+cu128")


def test_osv_knows_releases_of_ubuntu_and_says_one_thing_once() -> None:
    def ubuntu(*rows: dict[str, Any]) -> list[Vulnerability]:
        data = lists.osv(*rows, ecosystem="Ubuntu:24.04:LTS")
        wanted = {"openssl": ["3.0.13-0ubuntu3.4"]}
        return list(osv.parse(data, Feed.UBUNTU, {osv.ubuntu("24.04"): wanted}).found)

    rows = [
        lists.osv_entry(
            name,
            "openssl",
            ("0", "3.0.13-0ubuntu3.9"),
            ecosystem="Ubuntu:24.04:LTS",
            upstream=["CVE-2026-7"],
            severity=[{"type": "Ubuntu", "score": score}],
        )
        for name, score in (("UBUNTU-CVE-2026-7", "high"), ("USN-1-1", "unknown"))
    ]
    [found] = ubuntu(*rows)
    assert (found.id, found.fix, found.rating) == ("CVE-2026-7", "3.0.13-0ubuntu3.9", Rating.HIGH)
    assert ubuntu(rows[0] | {"withdrawn": "2026-01-01T00:00:00Z"}) == []
    other = [
        row
        | {
            "affected": [
                one | {"package": {"ecosystem": "Ubuntu:22.04:LTS", "name": "openssl"}}
                for one in row["affected"]
            ]
        }
        for row in rows
    ]
    assert ubuntu(*other) == [], "of another release"


def test_publishing_waits_for_a_recent_record_where_the_definition_asks(bench: Bench) -> None:
    release_gate.check_vulnerabilities(
        definition_file.load(bench.root, bench.definition), bench.build
    )
    bench.definition.write_text(bench.text + "security: {cve: {}}\n", encoding="utf-8")
    definition = definition_file.load(bench.root, bench.definition)

    def refused(said: str, **changes: object) -> None:
        if changes:
            records.write(bench.build.path / CVE_FILE, good.model_copy(update=changes))
        with pytest.raises(NotVerified, match=said):
            release_gate.check_vulnerabilities(definition, bench.build)

    refused("has no record of its vulnerabilities")
    bench.ask(0)
    release_gate.check_vulnerabilities(definition, bench.build)
    good = bench.record
    refused("more than 24 hours ago", checked_at=clock.stamp(lists.NOON - timedelta(hours=25)))
    refused("is not of the past", checked_at=clock.stamp(lists.NOON + timedelta(hours=2)))
    refused("was asked for critical", fail_on=Rating.CRITICAL)
    refused("not all lists of vulnerabilities could be used", outcome=Outcome.UNREACHABLE)
    refused("is of build 000000000000", build_id="0" * 12)


@pytest.mark.parametrize(
    ("host", "code"), [("debian-12", 6), ("debian-13", 0), ("ubuntu-24.04", 0)]
)
def test_the_loader_is_looked_up_in_the_release_of_the_machine_that_baked(
    host: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = ready(Bench(tmp_path, "debian-13-immutable"), monkeypatch)
    text = bench.build.bake.read_text(encoding="utf-8")
    bench.build.bake.write_text(text.replace("ubuntu-24.04", host), encoding="utf-8")
    known = lists.release("open", urgency="high")
    tracker = json.loads(lists.tracker({"grub2": {"CVE-2026-0003": known}}))
    del tracker["grub2"]["CVE-2026-0003"]["releases"]["trixie"]
    bench.server.lists[Feed.DEBIAN] = json.dumps(tracker).encode()
    assert ("CVE-2026-0003  grub2" in bench.ask(code)) == bool(code)
    bench.server.close()
