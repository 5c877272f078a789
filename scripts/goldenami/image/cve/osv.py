"""OSV's lists (OSV schema 1.6): a ZIP with one JSON file for each vulnerability."""

from __future__ import annotations

import datetime
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from debian.debian_support import Version as DebianVersion
from packaging.utils import canonicalize_name
from packaging.version import Version as PythonVersion

from goldenami.core.errors import Unreachable
from goldenami.image.cve.feeds import FeedData
from goldenami.model.builds.security_records import Feed, Vulnerability
from goldenami.model.supported.scales import Rating

_WORDS = {
    "moderate": Rating.MEDIUM,
    "negligible": Rating.LOW,
    **{rating.value: rating for rating in Rating},
}
"""Ratings by the words of the lists: GitHub has moderate, Ubuntu negligible, the others are
CVSS's."""
_APK = re.compile(r"([\d.]+)([a-z]?)((?:_[a-z]+\d*)*)(?:~\w+)?(?:-r(\d+))?")
_APK_WORDS = ("alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p")
"""Suffixes in the order of apk-package(5); "" stands for a version without one."""


def apk_order(version: str) -> tuple[Any, ...]:
    """A sort key for Alpine's versions. Raises ValueError for another text."""
    if not (match := _APK.fullmatch(version)):
        raise ValueError(f"{version!r} is no version of apk")
    words = [
        (_APK_WORDS.index(word), int(number or 0))
        for word, number in re.findall(r"_([a-z]+)(\d*)", match[3])
    ]
    numbers = [int(number) for number in match[1].split(".") if number]
    return numbers, match[2], [*words, (_APK_WORDS.index(""), 0)], int(match[4] or 0)


_ORDER: dict[Feed, Callable[[str], Any]] = {
    Feed.PYPI: PythonVersion,
    Feed.UBUNTU: DebianVersion,
    Feed.ALPINE: apk_order,
}
PYPI = "PyPI"


def ubuntu(release: str) -> str:
    """OSV's name of a long-term release of Ubuntu, such as "24.04"."""
    return f"Ubuntu:{release}:LTS"


def alpine(release: str) -> str:
    """OSV's name of a release of Alpine, such as "3.20.3"."""
    return f"Alpine:v{'.'.join(release.split('.')[:2])}"


def parse(
    data: bytes,
    feed: Feed,
    wanted: Mapping[str, Mapping[str, Sequence[str]]],
) -> FeedData:
    """The list's vulnerabilities of the `wanted` versions, which are by ecosystem (OSV's name) and
    project.

    Raises Unreachable if the data has another form, or nothing about one of the ecosystems.
    """
    entries, newest, ecosystems, findings = 0, "", set[str](), list[Vulnerability]()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                if not name.endswith(".json"):
                    continue
                entry = json.loads(archive.read(name))
                entries, newest = entries + 1, max(newest, entry["modified"])
                wanted_rows = [
                    row
                    for row in entry.get("affected", [])
                    if row["package"]["ecosystem"] in wanted
                ]
                ecosystems |= {row["package"]["ecosystem"] for row in wanted_rows}
                # A withdrawn entry is no finding, but shows that the list covers its ecosystem.
                if "withdrawn" not in entry:
                    findings += _against(entry, wanted_rows, feed, wanted)
        changed = datetime.datetime.fromisoformat(newest).date() if newest else None
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(f"is no list of OSV's: {error!r}") from None
    if entries and (missing := wanted.keys() - ecosystems):
        raise Unreachable(f"has no entry of {', '.join(sorted(missing))}")
    return FeedData(entries, changed, _once(findings))


def _against(
    entry: dict[str, Any],
    affected: list[dict[str, Any]],
    feed: Feed,
    wanted: Mapping[str, Mapping[str, Sequence[str]]],
) -> Iterator[Vulnerability]:
    for row in affected:
        name = row["package"]["name"]
        name = canonicalize_name(name) if feed is Feed.PYPI else name
        for version in wanted[row["package"]["ecosystem"]].get(name, ()):
            # The local part of `2.7.0+cu128` names a build; lists know the public version alone.
            public = version.partition("+")[0] if feed is Feed.PYPI else version
            fixes = [
                fix
                for ranged in row.get("ranges", [])
                if ranged["type"] == "ECOSYSTEM"
                for fix in _in_range(public, ranged["events"], _ORDER[feed])
            ]
            # Some entries list single versions that no range of theirs contains.
            if not fixes and public in row.get("versions", []):
                fixes = [""]
            if fixes:
                names = [entry["id"], *entry.get("aliases", []), *entry.get("upstream", [])]
                yield Vulnerability(
                    id=next((alias for alias in names if alias.startswith("CVE-")), entry["id"]),
                    feed=feed,
                    part=name,
                    version=version,
                    fix=fixes[0],
                    rating=_rating(entry, row),
                    detail=str(entry.get("summary", ""))[:200],
                )


def _in_range(
    version: str, events: list[dict[str, str]], order: Callable[[str], Any]
) -> Iterator[str]:
    """The fix of each range of `events` that has `version` in it; "" for a range without a fix."""
    position, is_affected = order(version), False
    # Events count in the order of their versions, in whatever order they are listed.
    for event in sorted(events, key=lambda event: order(next(iter(event.values())))):
        if "introduced" in event:
            is_affected = is_affected or order(event["introduced"]) <= position
        elif is_affected and "fixed" in event:
            if position < order(event["fixed"]):
                yield event["fixed"]
            is_affected = False
        elif is_affected and "last_affected" in event:
            if position <= order(event["last_affected"]):
                yield ""
            is_affected = False
    if is_affected:
        yield ""


def _rating(entry: dict[str, Any], row: dict[str, Any]) -> Rating:
    """The rating that somebody gave in words. A CVSS vector alone is no rating."""
    words = [part.get("database_specific", {}).get("severity", "") for part in (entry, row)]
    words += [
        severity.get("score", "")
        for severity in entry.get("severity", [])
        if severity.get("type") == "Ubuntu"
    ]
    return next(
        (
            _WORDS[word.lower()]
            for word in words
            if isinstance(word, str) and word.lower() in _WORDS
        ),
        Rating.UNKNOWN,
    )


def _once(findings: list[Vulnerability]) -> list[Vulnerability]:
    """Each vulnerability once: PYSEC and GHSA may both describe it. The entry with the worse rating
    is kept, with a fix from either."""
    best = dict[tuple[str, str, str], Vulnerability]()
    for finding in findings:
        key = (finding.id, finding.part, finding.version)
        earlier = best.get(key, finding)
        chosen = (
            finding
            if finding.rating.at_least(earlier.rating) or earlier.rating is Rating.UNKNOWN
            else earlier
        )
        best[key] = chosen.model_copy(update={"fix": chosen.fix or earlier.fix or finding.fix})
    return list(best.values())
