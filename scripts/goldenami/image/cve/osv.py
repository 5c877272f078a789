"""OSV's lists (OSV schema 1.6), a ZIP of one JSON file a vulnerability."""

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
"""GitHub says moderate, Ubuntu negligible; the other words are CVSS's."""
_APK = re.compile(r"([\d.]+)([a-z]?)((?:_[a-z]+\d*)*)(?:~\w+)?(?:-r(\d+))?")
_APK_WORDS = ("alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p")
"""In the order of apk-package(5), the version without a word among them."""


def apk_order(version: str) -> tuple[Any, ...]:
    """The order of Alpine's versions; ValueError for what is none."""
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
    """OSV's name of a long-term release of Ubuntu, "24.04"."""
    return f"Ubuntu:{release}:LTS"


def alpine(release: str) -> str:
    """OSV's name of a release of Alpine, "3.20.3"."""
    return f"Alpine:v{'.'.join(release.split('.')[:2])}"


def parse(
    data: bytes,
    feed: Feed,
    wanted: Mapping[str, Mapping[str, Sequence[str]]],
) -> FeedData:
    """What the list has against the `wanted` versions by ecosystem, as OSV names it, and project.

    Unreachable for data of another form, and where it has nothing of an ecosystem at all.
    """
    entries, newest, seen, found = 0, "", set[str](), list[Vulnerability]()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                if not name.endswith(".json"):
                    continue
                entry = json.loads(archive.read(name))
                entries, newest = entries + 1, max(newest, entry["modified"])
                mine = [
                    row
                    for row in entry.get("affected", [])
                    if row["package"]["ecosystem"] in wanted
                ]
                seen |= {row["package"]["ecosystem"] for row in mine}
                if "withdrawn" not in entry:
                    found += _against(entry, mine, feed, wanted)
        changed = datetime.datetime.fromisoformat(newest).date() if newest else None
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(f"is no list of OSV's: {error!r}") from None
    if entries and (lost := wanted.keys() - seen):
        raise Unreachable(f"has no entry of {', '.join(sorted(lost))}")
    return FeedData(entries, changed, _once(found))


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
            # Of `2.7.0+cu128` an index of builds has said which build it is: no list does.
            public = version.partition("+")[0] if feed is Feed.PYPI else version
            fixes = [
                fix
                for ranged in row.get("ranges", [])
                if ranged["type"] == "ECOSYSTEM"
                for fix in _in_range(public, ranged["events"], _ORDER[feed])
            ]
            if not fixes and public in row.get("versions", []):
                fixes = [""]
            if fixes:
                names = [entry["id"], *entry.get("aliases", []), *entry.get("upstream", [])]
                yield Vulnerability(
                    id=next((one for one in names if one.startswith("CVE-")), entry["id"]),
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
    at, since = order(version), False
    for event in sorted(events, key=lambda event: order(next(iter(event.values())))):
        if "introduced" in event:
            since = since or order(event["introduced"]) <= at
        elif since and "fixed" in event:
            if at < order(event["fixed"]):
                yield event["fixed"]
            since = False
        elif since and "last_affected" in event:
            if at <= order(event["last_affected"]):
                yield ""
            since = False
    if since:
        yield ""


def _rating(entry: dict[str, Any], row: dict[str, Any]) -> Rating:
    """The word that somebody gave it; a CVSS vector alone is none."""
    words = [part.get("database_specific", {}).get("severity", "") for part in (entry, row)]
    words += [
        one.get("score", "") for one in entry.get("severity", []) if one.get("type") == "Ubuntu"
    ]
    return next(
        (
            _WORDS[word.lower()]
            for word in words
            if isinstance(word, str) and word.lower() in _WORDS
        ),
        Rating.UNKNOWN,
    )


def _once(found: list[Vulnerability]) -> list[Vulnerability]:
    """Each once: PYSEC and GHSA describe the same one. The one that is rated stays, and a fix that
    either knows."""
    best = dict[tuple[str, str, str], Vulnerability]()
    for one in found:
        key = (one.id, one.part, one.version)
        other = best.get(key, one)
        chosen = (
            one if one.rating.at_least(other.rating) or other.rating is Rating.UNKNOWN else other
        )
        best[key] = chosen.model_copy(update={"fix": chosen.fix or other.fix or one.fix})
    return list(best.values())
