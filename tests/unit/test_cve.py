"""The vulnerability gate: public lists over HTTP in their real form, good and bad, and what stops a build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from goldenami.core import clock, records
from goldenami.core.errors import NotVerified, Unreachable
from goldenami.image.security import cve, debian_tracker, nvidia_bulletins, osv, waivers
from goldenami.image.security.components import SourcePackage
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Feed, Rating
from goldenami.model.definitions import definition_file
from goldenami.packages.store import Store
from goldenami.release.publish import release_gate
from support.builds import builds
from support.security import lists, materials
from support.security.lists import ListServer, State

IMAGE = "debian-12-ml-frameworks"
"""Debian's packages and wheels, no driver."""
GPU_IMAGE = "debian-12-ml-gpu-frameworks"
"""With a driver, whose branch has ended."""
ASKED = "security: {cve: {}}\n"


class Bench:
    """A checkout with one build, asked against the lists of a server. `reset` makes it as new."""

    def __init__(self, root: Path, server: ListServer, image: str = IMAGE) -> None:
        self.root, self.server, self.lock = builds.copy_definitions(root), server, materials.committed(image)
        self.definition = definition_file.path_of(root, image)
        self.text = self.definition.read_text(encoding="utf-8")
        materials.stock(Store(root / "cache"), self.lock)
        self.build: BuildFolder = materials.build(root, self.lock)

    def reset(self) -> None:
        self.server.lists, self.server.changed = lists.quiet(), lists.NOON
        self.definition.write_text(self.text, encoding="utf-8")
        (self.root / waivers.PATH).write_text("waivers: []\n", encoding="utf-8")
        (self.build.path / CVE_FILE).unlink(missing_ok=True)

    def ask(self, *options: str) -> builds.Ran:
        return builds.golden(self.root, "cve", self.lock.image, *self.server.options, *options)

    @property
    def record(self) -> CveRecord:
        return records.read(self.build.path / CVE_FILE, CveRecord)

    def waive(self, **changes: object) -> None:
        row = {"id": "CVE-2026-0001", "kind": "vulnerability", "images": [IMAGE], "status": "in_triage",
               "reason": "somebody looks at it", "expires": f"{lists.TODAY + timedelta(days=60)}", "by": "Ada"}
        rows = json.dumps([{key: value for key, value in (row | changes).items() if value is not None}])
        expires = (row | changes)["expires"]
        (self.root / waivers.PATH).write_text(
            f"waivers:\n- {rows[1:-1]}\n".replace(f'"{expires}"', str(expires)), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    server = ListServer()
    yield Bench(tmp_path_factory.mktemp("checkout"), server)
    server.close()


@pytest.fixture
def bench(made: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("GOLDEN_CACHE", str(made.root / "cache"))
    monkeypatch.setattr(clock, "now", lambda: lists.NOON)
    made.reset()
    return made


def newer(bench: Bench) -> dict[str, dict[str, State]]:
    """A vulnerability of bash that a newer version mends."""
    version = bench.lock.packages["bash"].version
    return {"bash": {"CVE-2026-0001": lists.release("resolved", f"{version}+deb12u9")}}


def test_a_build_that_nothing_is_known_against_passes(bench: Bench) -> None:
    ran = bench.ask()
    assert (ran.code, bench.record.outcome) == (0, Outcome.CORRECT), ran.text
    statuses = {status.feed: status for status in bench.record.feeds}
    assert statuses.keys() == {Feed.KEV, Feed.DEBIAN, Feed.PYPI}, "no driver, no Ubuntu"
    assert statuses[Feed.DEBIAN].sha256 == hashlib.sha256(bench.server.lists[Feed.DEBIAN]).hexdigest()
    assert (statuses[Feed.KEV].entries, statuses[Feed.KEV].dated) == (lists.FILLING, lists.TODAY)
    assert statuses[Feed.DEBIAN].address.startswith("http://127.0.0.1:")


def test_a_damaged_record_is_made_again(bench: Bench) -> None:
    (bench.build.path / CVE_FILE).write_text('{"image": ', encoding="utf-8")
    ran = bench.ask()
    assert (ran.code, bench.record.outcome) == (0, Outcome.CORRECT), ran.text


def test_without_a_build_the_lock_is_asked_and_of_all_images_one_answer_comes(bench: Bench) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker(newer(bench))
    bench.build.bake.rename(bench.build.bake.with_suffix(".away"))
    try:
        ran = bench.ask()
        assert (ran.code, bench.record.outcome) == (6, Outcome.INCORRECT), ran.text
        assert f"{bench.build.build_id} (by its lock): 1 known" in ran.text, ran.text
        ran = builds.golden(bench.root, "cve", *bench.server.options)  # the store has no other image's packages
        assert (ran.code, "vulnerabilities that stop it" in ran.text) == (6, True), ran.text
        assert "debian-13-ml-cpu: the store has no " in ran.text, ran.text
    finally:
        bench.build.bake.with_suffix(".away").rename(bench.build.bake)
    assert builds.golden(bench.root, "cve", "--build", "0" * 12).code == 2


def test_of_several_images_what_is_known_outranks_what_is_not(bench: Bench) -> None:
    unknown, known = Unreachable("one: not all lists"), NotVerified("two has 1", tail="CVE-1")
    error = cve.worst([unknown, known])
    assert (error, error.tail) == (known, "CVE-1\none: not all lists")


def test_where_no_list_is_there_nothing_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That a branch of the driver has ended is known without a list; it does not make a comparison of none."""
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(clock, "now", lambda: lists.NOON)
    server = ListServer()
    try:
        bench = Bench(tmp_path, server, GPU_IMAGE)
        whole = lists.quiet()
        for left, code in (([], 4), ([Feed.KEV], 4), ([Feed.DEBIAN], 6), ([*whole], 6)):
            bench.reset()
            server.lists = {feed: whole[feed] for feed in left}
            ran = bench.ask()
            assert ran.code == code, (left, ran.text)
            assert [one.id for one in bench.record.findings] == ["driver-branch-535"], ran.text
            assert "driver-branch-535  nvidia" in ran.text, "it is said all the same"
            assert bench.record.outcome is (Outcome.UNREACHABLE if code == 4 else Outcome.INCORRECT)
            assert ("nothing was compared" in ran.text) == (code == 4), ran.text
    finally:
        server.close()


def test_what_a_newer_package_mends_stops_a_build(bench: Bench) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker(newer(bench))
    ran = bench.ask()
    assert ran.code == 6 and "CVE-2026-0001  bash" in ran.text and "mended by" in ran.text, ran.text
    [found] = bench.record.findings
    assert (found.stops, bench.record.outcome) == (True, Outcome.INCORRECT)
    vex = (bench.build.path / cve.VEX_FILE).read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(vex) is None
    [row] = json.loads(vex)["vulnerabilities"]
    assert row["analysis"]["state"] == "exploitable" and "#bash-" in row["affects"][0]["ref"]


@pytest.mark.parametrize(("state", "exploited", "fails"), [
    (lists.release("open"), False, False),
    (lists.release("open"), True, True),
    (lists.release("open", urgency="high**"), False, True),
    (lists.release("open", urgency="medium"), False, False),
    (lists.release("open", urgency="end-of-life"), False, True),
    (lists.release("undetermined"), False, False),
])
def test_what_nothing_mends_stops_by_rating_or_use(
    bench: Bench, state: State, exploited: bool, fails: bool,
) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker({"bash": {"CVE-2026-0001": state}})
    if exploited:
        bench.server.lists[Feed.KEV] = lists.kev("CVE-2026-0001")
    assert bench.ask().code == (6 if fails else 0)
    [found] = bench.record.findings
    assert (found.fails, found.exploited) == (fails, exploited)


@pytest.mark.parametrize("state", [
    lists.release("open", urgency="unimportant"), lists.release("resolved", "0"), lists.release("resolved", "1.0"),
])
def test_what_does_not_concern_a_build_is_no_finding(bench: Bench, state: State) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker({"bash": {"CVE-2026-0001": state}})
    assert bench.ask().code == 0 and bench.record.findings == []


@pytest.mark.parametrize(("feed", "data", "said"), [
    (Feed.DEBIAN, lists.tracker({})[:-40], "is no tracker's data"),
    (Feed.DEBIAN, b"<html>busy</html>", "is no tracker's data"),
    (Feed.DEBIAN, b"{}", "has no entry of"),
    (Feed.DEBIAN, lists.tracker({}, ("trixie",)), "has no entry of bookworm"),
    (Feed.DEBIAN, None, "answered 404"),
    (Feed.PYPI, lists.osv()[:-30], "is no list of OSV's"),
    (Feed.PYPI, lists.osv(ecosystem="npm"), "has no entry of PyPI"),
    (Feed.PYPI, lists.osv(modified=lists.TODAY - timedelta(days=30)), "is stale"),
    (Feed.KEV, lists.kev(released=lists.TODAY - timedelta(days=90)), "is stale"),
    (Feed.KEV, b'{"dateReleased": "2026-01-01", "count": 9, "vulnerabilities": []}', "states 9 entries and has 0"),
    (Feed.KEV, b"[]", "is no catalogue"),
])
def test_a_list_that_is_not_whole_is_never_good_news(
    bench: Bench, feed: Feed, data: bytes | None, said: str,
) -> None:
    if data is None:
        del bench.server.lists[feed]
    else:
        bench.server.lists[feed] = data
    ran = bench.ask()
    assert ran.code == 4 and said in ran.text, ran.text
    assert bench.record.outcome is Outcome.UNREACHABLE
    [status] = [status for status in bench.record.feeds if status.error]
    assert status.feed is feed


def test_a_list_that_shrinks_or_goes_backwards_is_not_believed(bench: Bench) -> None:
    assert bench.ask().code == 0
    whole = bench.server.lists[Feed.DEBIAN]
    half = json.loads(whole)
    half["filling"] = dict(list(half["filling"].items())[:100])
    bench.server.lists[Feed.DEBIAN] = json.dumps(half).encode()
    for _ in range(2):  # the one that was refused is not what the next one is held against
        ran = bench.ask()
        assert ran.code == 4 and "has shrunk: 100 entries, the last one had 200" in ran.text, ran.text
    bench.server.lists[Feed.DEBIAN] = whole
    bench.server.changed = lists.NOON - timedelta(days=2)
    assert "goes backwards" in bench.ask().text


def test_a_list_has_the_digest_that_was_asked_for(bench: Bench) -> None:
    digest = hashlib.sha256(bench.server.lists[Feed.KEV]).hexdigest()
    assert bench.ask("--sha256", f"kev={digest}").code == 0
    ran = bench.ask("--sha256", f"kev={'0' * 64}")
    assert ran.code == 4 and f"has SHA-256 {digest[:12]}, not 000000000000" in ran.text
    ran = bench.ask("--data", "debain=x")
    assert ran.code == 2 and "did you mean `debian`?" in ran.text


def test_a_waiver_lets_one_finding_pass_until_it_ends(bench: Bench) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker(newer(bench))
    bench.waive()
    assert bench.ask().code == 0
    assert bench.record.findings[0].waived.endswith("says Ada: somebody looks at it")
    bench.waive(expires=str(lists.TODAY))
    ran = bench.ask()
    assert ran.code == 0 and "warning: " in ran.text and "in 0 days" in ran.text
    bench.waive(expires=str(lists.TODAY - timedelta(days=1)))
    ran = bench.ask()
    assert ran.code == 2 and "packer/waivers.yml:2: waivers.1.expires: the waiver of CVE-2026-0001 expired" in ran.text


@pytest.mark.parametrize(("changes", "said"), [
    ({"id": "CVE-2026-9999"}, "waivers.1.id: CVE-2026-9999 excuses nothing"),
    ({"images": ["debian-12-ml-framework"]}, "did you mean `debian-12-ml-frameworks`?"),
    ({"kind": "vulnerabilty"}, "waivers.1.kind"),
    ({"stauts": "x"}, "unknown key; did you mean `status`?"),
    ({"expires": str(lists.TODAY + timedelta(days=91))}, "is more than 90 days ahead, the most for in_triage"),
    ({"status": "not_affected"}, "not_affected needs a justification"),
    ({"justification": "code_not_present"}, "not_affected needs a justification"),
    ({"reason": "short"}, "waivers.1.reason"), ({"by": None}, "waivers.1.by: is required"),
])
def test_a_waiver_that_is_wrong_names_its_line(bench: Bench, changes: dict[str, object], said: str) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker(newer(bench))
    bench.waive(**changes)
    ran = bench.ask()
    assert ran.code == 2 and "packer/waivers.yml:2:" in ran.text and said in ran.text, ran.text


def test_what_is_waived_may_be_unseen_where_a_list_is_missing(bench: Bench) -> None:
    bench.waive()
    del bench.server.lists[Feed.DEBIAN]
    assert bench.ask().code == 4


def driver(version: str, *bulletins: dict[str, object], sm: tuple[str, ...] = ("86",)) -> dict[str, object]:
    data = nvidia_bulletins.parse(lists.bulletins(*(bulletins or lists.NVIDIA)), version, sm)
    return {one.id: one for one in data.found}


def test_bulletins_say_which_drivers_are_affected() -> None:
    assert driver("535.309.01") == {}
    found = driver("535.261.03")
    assert found.keys() == {"CVE-2026-1001", "CVE-2026-1002", "CVE-2026-1003"}
    data = nvidia_bulletins.parse(lists.bulletins(*lists.NVIDIA), "535.288.01", ["86"])
    assert {one.id: (one.fix, one.rating) for one in data.found} == {
        "CVE-2026-1002": ("535.309.01", Rating.MEDIUM), "CVE-2026-1003": ("535.309.01", Rating.CRITICAL)}
    assert (data.entries, data.changed) == (2, lists.TODAY - timedelta(days=20))


def test_a_branch_that_the_newest_bulletin_does_not_name_is_a_finding() -> None:
    [found] = nvidia_bulletins.parse(lists.bulletins(*lists.NVIDIA), "550.163.02", ["86"]).found
    assert (found.id, found.rating) == ("driver-branch-550", Rating.HIGH)
    assert found.detail.endswith("its successors are 580, 595")
    [found] = nvidia_bulletins.parse(lists.bulletins(*lists.NVIDIA), "550.163.02", ["70"]).found
    assert found.detail.endswith("its successors are 580"), "595 does not run Volta"


def test_a_sentence_that_is_not_understood_is_an_error() -> None:
    odd = lists.bulletin(5900, lists.TODAY, {"535": "535.400.01"}, {"CVE-2026-1": "LOW"}, words="Most versions, but {}")
    with pytest.raises(Unreachable, match=r"does not say which versions: 'Most versions, but 535\.400\.01'"):
        driver("535.309.01", odd)
    other = lists.bulletin(5901, lists.TODAY, {"535": "1"}, {}, title="Security Bulletin: Jetson")
    with pytest.raises(Unreachable, match="has no bulletin of the GPU display driver"):
        driver("535.309.01", other)
    assert driver("535.309.01", lists.bulletin(5902, lists.TODAY, {"535": "x"}, {"CVE-2026-2": "LOW"},
                                               words="All driver versions")).keys() == {"CVE-2026-2"}


@pytest.mark.parametrize(("version", "ranges", "fix"), [
    ("2.0", (("0", "2.1"),), "2.1"), ("2.1", (("0", "2.1"),), None), ("2.0rc1", (("2.0", "2.1"),), None),
    ("3.0", (("0", "2.1"), ("3.0", "")), ""), ("2.5", (("0", "2.1"), ("3.0", "")), None),
    ("2.10", (("2.9", "2.11"),), "2.11"), ("2.0+cu128", (("0", "2.0.1"),), "2.0.1"),
])
def test_osv_ranges_are_in_the_order_of_their_ecosystem(version: str, ranges: tuple[tuple[str, str], ...],
                                                        fix: str | None) -> None:
    entry = lists.osv_entry("GHSA-x", "Scikit_Learn", *ranges, aliases=["CVE-2026-5"],
                            database_specific={"severity": "MODERATE"})
    found = osv.parse(lists.osv(entry), osv.python(), {"scikit-learn": [version]}).found
    assert [(one.id, one.fix, one.rating) for one in found] == (
        [] if fix is None else [("CVE-2026-5", fix, Rating.MEDIUM)])


def test_osv_lists_no_build_of_an_index_of_builds() -> None:
    entry = lists.osv_entry("GHSA-x", "torch", aliases=["CVE-2026-5"])
    entry["affected"][0] |= {"versions": ["2.7.0"], "ranges": [
        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "2.7.0"}]}]}
    for version in ("2.7.0", "2.7.0+cu128"):
        (found,) = osv.parse(lists.osv(entry), osv.python(), {"torch": [version]}).found
        assert (found.id, found.version) == ("CVE-2026-5", version)


def test_osv_knows_releases_of_ubuntu_and_says_one_thing_once() -> None:
    rows = [lists.osv_entry(name, "openssl", ("0", "3.0.13-0ubuntu3.9"), ecosystem="Ubuntu:24.04:LTS",
                            upstream=["CVE-2026-7"], severity=[{"type": "Ubuntu", "score": score}])
            for name, score in (("UBUNTU-CVE-2026-7", "high"), ("USN-1-1", "unknown"))]
    data = lists.osv(*rows, ecosystem="Ubuntu:22.04:LTS")
    [found] = osv.parse(data, osv.ubuntu("24.04"), {"openssl": ["3.0.13-0ubuntu3.4"]}).found
    assert (found.id, found.fix, found.rating) == ("CVE-2026-7", "3.0.13-0ubuntu3.9", Rating.HIGH)
    withdrawn = rows[0] | {"withdrawn": "2026-01-01T00:00:00Z"}
    assert osv.parse(lists.osv(withdrawn, ecosystem="Ubuntu:24.04:LTS"), osv.ubuntu("24.04"),
                     {"openssl": ["1"]}).found == []


@pytest.mark.parametrize(("version", "fixed", "affected"), [
    ("1:1.0-1", "1.5-1", False), ("1.0~rc1-1", "1.0-1", True), ("1.0-1+b3", "1.0-1", False), ("2.9-1", "2.10-1", True),
])
def test_versions_are_compared_as_dpkg_does(version: str, fixed: str, affected: bool) -> None:
    data = lists.tracker({"x": {"CVE-2026-1": lists.release("resolved", fixed)}})
    found = debian_tracker.parse(data, [(SourcePackage("x", version), "trixie")]).found
    assert bool(found) is affected


def test_publishing_waits_for_a_recent_record_where_the_definition_asks(bench: Bench) -> None:
    release_gate.check_vulnerabilities(definition_file.load(bench.root, bench.definition), bench.build)
    bench.definition.write_text(bench.text + ASKED, encoding="utf-8")
    definition = definition_file.load(bench.root, bench.definition)
    assert definition_file.without_publish(bench.text + ASKED) == definition_file.without_publish(bench.text), "stale"

    def refused(said: str) -> None:
        with pytest.raises(NotVerified, match=said):
            release_gate.check_vulnerabilities(definition, bench.build)

    refused("has no record of its vulnerabilities")
    assert bench.ask().code == 0
    release_gate.check_vulnerabilities(definition, bench.build)
    good = bench.record

    def rewrite(**changes: object) -> None:
        records.write(bench.build.path / CVE_FILE, good.model_copy(update=changes))

    rewrite(checked_at=f"{lists.NOON - timedelta(hours=25):%Y-%m-%dT%H:%M:%SZ}")
    refused("more than 24 hours ago")
    rewrite(checked_at=f"{lists.NOON + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}")
    refused("is not of the past")
    rewrite(fail_on=Rating.CRITICAL)
    refused("was asked for critical")
    rewrite(outcome=Outcome.UNREACHABLE)
    refused("not all lists of vulnerabilities could be used")
    rewrite(build_id="0" * 12)
    refused("is of build 000000000000")


def test_the_report_shows_them_and_is_made_again(bench: Bench) -> None:
    state = lists.release("open", urgency="high") | {"nodsa": "<script>alert(1)</script>"}
    bench.server.lists[Feed.DEBIAN] = lists.tracker({"bash": {"CVE-2026-0001": state}})
    bench.build.report.write_text("an older page", encoding="utf-8")
    assert bench.ask().code == 6
    page = bench.build.report.read_text(encoding="utf-8")
    bench.build.report.unlink()
    section = page[page.index('<section id="vulnerabilities"'):page.index('<section id="difference"')]
    assert "CVE-2026-0001, high" in section and "stops a publish" in section
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in section
    assert f"{lists.FILLING} entries of {lists.TODAY}" in section


def test_a_record_cannot_claim_what_its_findings_deny(bench: Bench) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker(newer(bench))
    assert bench.ask().code == 6
    with pytest.raises(ValueError, match="outcome is correct, but"):
        CveRecord.model_validate(bench.record.model_dump() | {"outcome": Outcome.CORRECT})
