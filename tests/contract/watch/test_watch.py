"""`golden watch` as a user runs it, against signed synthetic archives on loopback whose faults are
the tests' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from goldenami import cli
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import (
    CVE_FILE,
    CveRecord,
    Feed,
    FeedStatus,
    Vulnerability,
)
from goldenami.model.locked import lockfile
from goldenami.model.locked.python_packages import PythonPackages
from goldenami.model.supported.scales import Rating
from goldenami.packages.pypi import PyFile, PythonIndex
from goldenami.watch.watch_records import WatchRecord
from support.debian import debrepo, pyindex
from support.debian.debrepo import Fault, Package
from support.debian.watch_checkout import IMAGE, KERNEL, LESS, SED, WatchCheckout


def test_a_security_update_is_something_and_becomes_a_lock(checkout: WatchCheckout) -> None:
    checkout.archive("security", [SED, LESS, *KERNEL]).publish(date=debrepo.DATE + 1)
    before, text = checkout.lock(), lockfile.path_of(checkout.root, IMAGE).read_bytes()
    code, said = checkout.watch()
    assert code == 10, said
    assert checkout.verdicts() == {"kernel": "update", "packages": "update"}
    assert "1 newer, 1 by security" in said
    assert lockfile.path_of(checkout.root, IMAGE).read_bytes() == text  # looking changes nothing
    assert cli.main(["watch", IMAGE, "--json"]) == 10
    alone = WatchRecord.model_validate_json(checkout.capsys.readouterr().out)
    assert alone.rows == checkout.record.rows, "JSON alone is on standard output"
    code, said = checkout.watch("--update")
    assert code == 0, said
    after = checkout.lock()
    assert (after.kernel.release, after.packages["less"].version) == (
        "6.1.0-51-cloud-amd64",
        LESS.version,
    )
    assert {
        name
        for name in after.packages.keys() & before.packages.keys()
        if after.packages[name] != before.packages[name]
    } == {"less"}
    summary, change = checkout.summary, checkout.record.changes[0]
    assert summary.startswith(f"# new lock of {IMAGE}\n")
    assert "* Kernel: 6.1.0-50-cloud-amd64 to **6.1.0-51-cloud-amd64**" in summary
    assert f"| less | 1.0-1 | {LESS.version} |" in summary
    assert {(move.name, move.before, move.after) for move in change.packages} == {
        ("less", "1.0-1", LESS.version),
        ("linux-image-6.1.0-50-cloud-amd64", "6.1.140-1", ""),
        ("linux-image-6.1.0-51-cloud-amd64", "", "6.1.150-1"),
    }
    assert change.build_after == lockfile.read(lockfile.path_of(checkout.root, IMAGE))[1][:12]
    assert checkout.watch()[0] == 0


def _newer_nano(names: list[str]) -> list[Package]:
    known = [
        replace(one, version="7.3-1") if one.name == "nano" else one
        for one in debrepo.base_packages()
    ]
    more = sorted(set(names) - {package.name for package in known})
    return [*known, *(Package(name, depends="libc6") for name in more)]


def test_what_a_policy_leaves_stays_even_where_upstream_dropped_it(
    checkout: WatchCheckout, names: list[str]
) -> None:
    """A point release is shown and left; the security update beside it is taken; the dropped file
    is the store's."""
    checkout.archive("debian", _newer_nano(names)).publish(date=debrepo.DATE + 1)
    code, said = checkout.watch()
    assert code == 0, said
    assert checkout.verdicts()["packages"] == "held"
    assert "no security update: it comes from debian trixie (nano)" in said
    checkout.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    code, said = checkout.watch("--update")
    assert code == 0, said
    after = checkout.lock().packages
    assert (after["less"].version, after["nano"].version) == (LESS.version, "7.2-1")
    assert (after["nano"].origin, after["nano"].path) == (
        "debian",
        "pool/main/n/nano/nano_7.2-1_amd64.deb",
    )
    checkout.define("watch: {packages: {policy: newest}}")
    assert checkout.watch()[0] == 10
    assert checkout.watch("--update")[0] == 0
    assert checkout.lock().packages["nano"].version == "7.3-1"


def test_what_a_point_release_takes_over_stays_a_security_update(
    checkout: WatchCheckout,
    names: list[str],
) -> None:
    """Both archives have its version then; what the main one alone has is none."""
    checkout.define("watch: {kernel: {policy: security}, packages: {policy: security}}")
    stock = [
        replace(one, version="7.2-1") if one.name == "nano" else one for one in _newer_nano(names)
    ]
    main = [*(one for one in stock if one.name != "less"), *KERNEL, LESS]
    checkout.archive("debian", main).publish(date=debrepo.DATE + 1)
    code, said = checkout.watch()
    assert code == 0, said
    assert checkout.verdicts() == {"kernel": "held", "packages": "held"}
    checkout.archive("security", [SED, LESS, *KERNEL]).publish(date=debrepo.DATE + 1)
    code, said = checkout.watch()
    assert code == 10, said
    assert checkout.verdicts() == {"kernel": "update", "packages": "update"}, said
    assert "1 newer, 1 by security" in said


def known(checkout: WatchCheckout, *findings: Vulnerability) -> None:
    _, digest = lockfile.read(lockfile.path_of(checkout.root, IMAGE))
    records.write(
        checkout.root / f"build/{IMAGE}/{digest[:12]}/{CVE_FILE}",
        CveRecord(
            image=IMAGE,
            build_id=digest[:12],
            lock_sha256=digest,
            checked_at="2026-11-24T00:00:00Z",
            fail_on=Rating.HIGH,
            feeds=[FeedStatus(feed=Feed.DEBIAN, address="x", entries=1)],
            findings=list(findings),
            warnings=[],
            outcome=Outcome.INCORRECT,
        ),
    )


def test_what_mends_a_known_vulnerability_is_a_security_update_and_named(
    checkout: WatchCheckout,
    names: list[str],
) -> None:
    """It comes with a point release, which the policy leaves as long as nothing is known of it."""
    checkout.archive("debian", _newer_nano(names)).publish(date=debrepo.DATE + 1)
    mended = Vulnerability(
        id="CVE-2026-10000", feed=Feed.DEBIAN, part="nano", version="7.2-1", fix="7.3-1", fails=True
    )
    others = [
        mended.model_copy(update=change)
        for change in (
            {"id": "CVE-2026-2", "fix": "7.4-1"},
            {"id": "CVE-2026-3", "part": "sed"},
            {"id": "CVE-2026-4", "fix": ""},
            {"id": "CVE-2026-5", "version": "7.1-1"},
            {"id": "CVE-2026-6", "feed": Feed.PYPI},
        )
    ]
    known(checkout, *others)
    code, said = checkout.watch()
    assert (code, checkout.verdicts()["packages"], "mends CVE" in said) == (0, "held", False), said
    known(checkout, mended, *others)
    code, said = checkout.watch()
    assert (code, checkout.verdicts()["packages"]) == (10, "update"), said
    assert "1 newer, 1 by security" in said and "nano; mends CVE-2026-10000\n" in said, said
    assert [row.mends for row in checkout.record.rows] == [[], ["CVE-2026-10000"]]
    code, said = checkout.watch("--update")
    assert (code, checkout.lock().packages["nano"].version) == (0, "7.3-1"), said
    assert checkout.summary.startswith(f"# new lock of {IMAGE}; mends CVE-2026-10000\n")
    assert (
        "* Mends what is known against build " in checkout.summary
        and "CVE-2026-2" not in checkout.summary
    )


@pytest.mark.parametrize(
    ("faults", "broken", "said"),
    [
        (
            {"/debian/*/InRelease": Fault.LOST, "/debian/*/Release.gpg": Fault.LOST},
            "debian",
            "is not signed",
        ),
        ({"/security/*": Fault.CIRCLE}, "debian-security", "Redirection loop"),
    ],
)
def test_a_source_that_cannot_be_looked_at(
    checkout: WatchCheckout, faults: dict[str, Fault], broken: str, said: str
) -> None:
    """The others still report; nothing is called current."""
    checkout.mirror.faults = faults
    code, printed = checkout.watch()
    assert code == 4, printed
    assert (
        f"golden: error: could not look at every source: {broken}: apt could not read the indexes: "
        in printed
    )
    errors = {source.name: source.error for source in checkout.record.sources}
    assert said in errors[broken]
    assert checkout.mirror.uri in errors[broken]
    assert set(checkout.verdicts().values()) == {"unreachable"}
    assert any(not error for error in errors.values())
    assert f"could not look at {broken}" in checkout.summary
    checkout.mirror.faults = {}


@pytest.mark.parametrize(
    ("served", "said"),
    [
        ([SED, Package("less", depends="libc6, bash")], "disagrees about less 1.0-1: SHA-256 "),
        ([], "is empty: it has none of the 1 packages that the lock of"),
    ],
)
def test_an_archive_that_contradicts_the_lock(
    checkout: WatchCheckout, served: list[Package], said: str
) -> None:
    checkout.archive("security", served).publish(date=debrepo.DATE + 1)
    code, printed = checkout.watch()
    assert (code, f"debian-security: {said}" in printed) == (4, True), printed


def test_a_held_kernel_stays_while_packages_move(checkout: WatchCheckout) -> None:
    checkout.archive("security", [SED, LESS, *KERNEL]).publish(date=debrepo.DATE + 1)
    hold = "policy: hold, review: 2026-01-31, reason: a vendor's module"
    checkout.define(f"watch: {{kernel: {{{hold}}}}}")
    code, said = checkout.watch("--update")
    assert code == 0, said
    row = checkout.record.rows[0]
    assert (row.verdict.value, row.available) == ("held", "6.1.150-1")
    assert checkout.lock().kernel.release == "6.1.0-50-cloud-amd64"
    assert checkout.lock().packages["less"].version == LESS.version
    late = f"{IMAGE}: the hold on kernel was to be reviewed by 2026-01-31 (a vendor's module)"
    assert f"warning: {late}" in said
    code, said = checkout.watch("--strict")
    assert (code, f"golden: error: 1 warnings, the first: {late}" in said) == (2, True), said


def with_framework(checkout: WatchCheckout, name: str, project: str, version: str) -> None:
    wheel = PyFile(project=project, version=version, filename="x.whl", sha256="0" * 64, size=1)
    framework = lockfile.Framework(
        name=name,
        version=version,
        environment=name,
        origin=lockfile.Origin.WHEEL,
        why="",
        gain=None,
        measured_on=None,
        wheel=wheel,
        requires=[],
        made=None,
        allow=[],
    )
    lockfile.write(
        lockfile.path_of(checkout.root, IMAGE),
        checkout.lock().model_copy(update={"frameworks": [framework]}),
    )


def test_frameworks_of_a_lock_are_watched_by_default(checkout: WatchCheckout) -> None:
    """In their series, under the project's name on the index; a person moves them, in the
    recipe."""
    with_framework(checkout, "llama_cpp", "llama-cpp-python", "0.3.1")
    with pyindex.serve() as index:
        checkout.patch.setenv("GOLDEN_MIRROR_PYPI", index.url)
        index.wheel("llama-cpp-python", "0.4.0")
        assert checkout.watch()[0] == 0
        row = checkout.record.rows[-1]
        assert (row.component, row.available, row.verdict.value, row.policy) == (
            "llama_cpp",
            "0.4.0",
            "held",
            "branch",
        )
        index.wheel("llama-cpp-python", "0.3.2")
        assert checkout.watch()[0] == 10
        row = checkout.record.rows[-1]
        assert (row.available, row.verdict.value) == ("0.3.2", "update")
        assert row.reason == "a person moves it: the version in the recipe of llama_cpp"
        checkout.define("watch: {frameworks: {llama_cpp: {policy: newest}}}")
        checkout.watch()
        assert checkout.record.rows[-1].available == "0.4.0"
    code, said = checkout.watch()
    assert (code, "Python index: llama-cpp-python: " in said) == (4, True), said


def test_python_packages_are_watched_each_on_its_index(checkout: WatchCheckout) -> None:
    """A person moves what the definition pins; a company's package is asked of its index alone."""
    wheels = [
        PyFile(project=name, version="1.0", filename="x.whl", sha256=digit * 64, size=1)
        for name, digit in (("pinned", "0"), ("company-model", "1"), ("needed", "2"))
    ]
    with pyindex.serve() as public, pyindex.serve() as private:
        private.login = "ann:secret"
        index = PythonIndex(url=private.url, packages=("company-*",), login="COMPANY_PYPI")
        python = PythonPackages(
            environment="ml",
            wheels=wheels,
            index=index,
            allow=[],
            asked={"pinned": "pinned==1.0", "company-model": "company-model<2"},
        )
        lockfile.write(
            lockfile.path_of(checkout.root, IMAGE),
            checkout.lock().model_copy(update={"python": python}),
        )
        checkout.patch.setenv("GOLDEN_MIRROR_PYPI", public.url)
        checkout.patch.setenv("COMPANY_PYPI", private.login)
        for name in ("pinned", "company-model"):
            public.wheel(name, "1.0.1")
            private.wheel(name, "1.0.2")
        assert checkout.watch()[0] == 10
        rows = {row.component: row for row in checkout.record.rows[-2:]}
        assert (rows["pinned"].available, rows["company-model"].available) == ("1.0.1", "1.0.2")
        assert rows["pinned"].reason == (
            "a person moves it: `pinned==1.0` in python_packages of the definition"
        )
        assert rows["company-model"].reason == ""
        checkout.patch.delenv("COMPANY_PYPI")
        code, said = checkout.watch()
    assert (code, "COMPANY_PYPI does not hold" in said) == (4, True), said


def test_images_without_a_lock_are_named(checkout: WatchCheckout) -> None:
    code, said = checkout.watch(name="")
    assert code == 0, said
    assert (
        "warning: debian-13-ml: no lock, so nothing to compare with: make lock IMAGE=debian-13-ml"
        in said
    )
    code, said = checkout.watch(name="debian-13-ml")
    assert code == 2
    assert "debian-13-ml.lock.json: no lock" in said
    assert "did you mean `debian-13-ml-cpu`" in checkout.watch(name="debian-13-ml-cp")[1]


def test_a_webhook_is_told_what_there_is_to_tell(
    checkout: WatchCheckout, webhook: Callable[[], list[str]]
) -> None:
    assert checkout.watch()[0] == 0
    assert webhook() == []  # silence while nothing happens
    checkout.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    assert checkout.watch()[0] == 10
    assert webhook()[0].startswith("*newer for debian-13-ml-cpu*\n# newer for debian-13-ml-cpu\n")
    checkout.mirror.faults = {"/security/*": Fault.LOST}
    assert checkout.watch()[0] == 4
    assert "could not look at debian-security" in webhook()[1]


def test_a_security_update_goes_to_its_own_version(
    checkout: WatchCheckout, names: list[str]
) -> None:
    """Not to that of a point release, which the policy leaves, though apt would choose it."""
    newer = [
        replace(one, version=f"{LESS.version}.1") if one.name == "less" else one
        for one in _newer_nano(names)
    ]
    checkout.archive("debian", newer).publish(date=debrepo.DATE + 1)
    checkout.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    code, said = checkout.watch("--update")
    assert code == 0, said
    assert checkout.lock().packages["less"].version == LESS.version
    assert checkout.lock().packages["less"].origin == "debian-security"
