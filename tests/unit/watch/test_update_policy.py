from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from goldenami.core.errors import BadInput, ExitCode
from goldenami.model.definitions import definition, definition_file, inheritance
from goldenami.model.definitions.update_policy import (
    LockedVersion,
    UpdatePolicy,
    UpdateRule,
    UpdateVerdict,
    VersionOffer,
    judge,
    overdue,
)
from goldenami.model.supported import compatibility
from goldenami.watch.sources import index_versions
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builds.definitions import PINNED, write_pinned

TODAY = date(2026, 11, 25)


def offer(version: str, source: str = "debian trixie", **more: Any) -> VersionOffer:
    return VersionOffer(version, version.partition(".")[0], source, **more)


OFFERS = [
    offer("535.261.03"),
    offer("535.309.01", "debian-security trixie-security", security=True),
    offer("550.163.01"),
    offer("575.64"),
    offer("580.95"),
]


def rule(name: str, **more: object) -> UpdateRule:
    return UpdateRule.model_validate(
        {"policy": name, **({"review": date(2027, 1, 31)} if name == "hold" else {}), **more}
    )


@pytest.mark.parametrize(
    ("name", "available", "verdict"),
    [
        ("hold", "580.95", UpdateVerdict.HELD),
        ("security", "535.309.01", UpdateVerdict.UPDATE),
        ("branch", "535.309.01", UpdateVerdict.UPDATE),
        ("newest", "580.95", UpdateVerdict.UPDATE),
    ],
)
def test_each_policy_takes_its_own(name: str, available: str, verdict: UpdateVerdict) -> None:
    found = judge(rule(name), LockedVersion("535.216.03", "535"), OFFERS, TODAY)
    assert (found.available, found.verdict) == (available, verdict)
    found = judge(rule(name), LockedVersion("580.95", "580"), OFFERS, TODAY)
    assert (found.available, found.verdict) == ("580.95", UpdateVerdict.CURRENT)


@pytest.mark.parametrize(
    ("name", "offers", "reason"),
    [
        ("security", [offer("535.261.03")], "no security update: it comes from debian trixie"),
        ("security", [offer("550.1", security=True)], "no security update"),
        ("branch", [offer("550.163.01")], "of branch 550"),
        ("hold", [offer("550.163.01")], "the definition holds it"),
    ],
)
def test_a_newer_version_that_a_policy_leaves_is_still_shown(
    name: str,
    offers: list[VersionOffer],
    reason: str,
) -> None:
    found = judge(rule(name), LockedVersion("535.216.03", "535"), offers, TODAY)
    assert (found.available, found.verdict) == (offers[0].version, UpdateVerdict.HELD)
    assert found.reason.startswith(reason)


def test_frameworks_are_in_pythons_order() -> None:
    offers = [offer("2.10.0"), offer("2.9.1.post1")]
    found = judge(
        rule("newest"), LockedVersion("2.9.0", "2.9", index_versions.order), offers, TODAY
    )
    assert found.available == "2.10.0"
    assert (
        judge(
            rule("newest"),
            LockedVersion("2.10.0", "2.10", index_versions.order),
            [offer("2.9.1")],
            TODAY,
        ).verdict
        is UpdateVerdict.CURRENT
    )


@pytest.mark.parametrize(
    ("released", "verdict", "reason"),
    [
        (date(2026, 11, 20), UpdateVerdict.YOUNG, "5 days old, has to be 7"),
        (date(2026, 11, 18), UpdateVerdict.UPDATE, ""),
        (None, UpdateVerdict.YOUNG, "no source says when it came out, and it has to be 7 days old"),
    ],
)
def test_a_minimum_age(released: date | None, verdict: UpdateVerdict, reason: str) -> None:
    found = judge(
        rule("newest", minimum_age_days=7),
        LockedVersion("1", "1"),
        [offer("2", released=released)],
        TODAY,
    )
    assert (found.verdict, found.reason) == (verdict, reason)


def test_a_version_that_cannot_be_taken_is_passed_over_with_its_reason() -> None:
    offers = [offer("3", refusal="half a driver"), offer("2")]
    found = judge(rule("newest"), LockedVersion("1", "1"), offers, TODAY)
    assert (found.available, found.verdict, found.reason) == (
        "2",
        UpdateVerdict.UPDATE,
        "3: half a driver",
    )
    found = judge(rule("newest"), LockedVersion("2", "2"), offers, TODAY)
    assert (found.available, found.verdict, found.reason) == (
        "3",
        UpdateVerdict.REFUSED,
        "half a driver",
    )


@settings(deadline=None)
@given(
    versions=st.lists(st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,2}){0,2}\Z"), max_size=6),
    name=st.sampled_from(UpdatePolicy),
)
def test_a_lock_never_moves_back(versions: list[str], name: UpdatePolicy) -> None:
    found = judge(
        rule(name), LockedVersion("535.1", "535"), [offer(version) for version in versions], TODAY
    )
    assert compatibility.version_tuple(found.available) >= (535, 1)
    assert found.verdict is not UpdateVerdict.UPDATE or compatibility.version_tuple(
        found.available
    ) > (535, 1)


def test_a_hold_past_its_review() -> None:
    held = rule("hold", review=date(2026, 11, 24), reason="the vendor certifies it")
    said = "the hold on driver was to be reviewed by 2026-11-24 (the vendor certifies it)"
    assert overdue("driver", held, TODAY) == said
    assert overdue("driver", held, date(2026, 11, 24)) == ""


# --- the section of a definition ---


@pytest.fixture
def pinned(root: Path) -> Path:
    return write_pinned(root)


def written(root: Path, section: str, image: str = PINNED) -> definition.Definition:
    path = definition_file.path_of(root, image)
    path.write_text(path.read_text(encoding="utf-8") + section, encoding="utf-8")
    return definition_file.load(root, path)


WRONG = [
    ("driver: {polcy: newest}", "driver.polcy: unknown key; did you mean `policy`?"),
    ("driver: {policy: hold}", "driver: a hold needs a `review` date, and only a hold has one"),
    ("driver: {policy: newest, review: 2027-01-01}", "driver: a hold needs a `review` date"),
    (
        "driver: {policy: newest, minimum_age_days: -1}",
        "driver.minimum_age_days: input should be greater than or equal to 0",
    ),
    (
        "frameworks: {torch: {policy: security}}",
        "frameworks: `security` would never take anything; one of hold, branch, newest",
    ),
]
"""What stands below `watch`, and the complaint."""


def test_a_section_that_is_wrong(root: Path, pinned: Path) -> None:
    text = pinned.read_text(encoding="utf-8")
    for section, complaint in WRONG:
        pinned.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput) as caught:
            written(root, f"watch: {{{section}}}\n")
        assert caught.value.exit_code is ExitCode.BAD_INPUT
        assert f"{PINNED}.yml:" in caught.value.message
        assert f": watch.{complaint}" in caught.value.message


def test_a_branch_that_does_not_run_the_gpu(root: Path, pinned: Path) -> None:
    text = pinned.read_text(encoding="utf-8")
    pinned.write_text(
        text.replace("[g4dn, g5, g6, g6e]", "[p3]").replace('branch: "550"', 'branch: "590"'),
        encoding="utf-8",
    )
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, pinned)
    line = text[: text.index("nvidia_driver_branch")].count("\n") + 1
    assert caught.value.message == (
        f"{pinned}:{line}: roles.nvidia_driver.nvidia_driver_branch: "
        "branch 590 does not run "
        f"sm_70: 580 was the last branch that does"
    )
    pinned.write_text(text.replace('branch: "550"', "branch: newst"), encoding="utf-8")
    with pytest.raises(BadInput, match="`newst` is no branch such as `535`"):
        definition_file.load(root, pinned)


def test_the_branch_alone_is_changed(pinned: Path) -> None:
    text = pinned.read_text(encoding="utf-8")
    changed = definition_file.with_branch(inheritance.load(pinned), "580")
    assert changed == text.replace('"550"', '"580"')
    pinned.write_text(text.replace('    nvidia_driver_branch: "550"\n', ""), encoding="utf-8")
    with pytest.raises(BadInput, match="states no nvidia_driver_branch that could be moved"):
        definition_file.with_branch(inheritance.load(pinned), "580")


@pytest.mark.parametrize("component", ["driver", "cuda"])
def test_nvidias_repository_has_no_security_updates(root: Path, component: str) -> None:
    with pytest.raises(
        BadInput,
        match=f"watch.{component}.policy: is `security`, but NVIDIA's repository "
        "marks no security updates",
    ):
        written(root, f"watch: {{{component}: {{policy: security}}}}\n", "ubuntu-24.04-ml-gpu")
