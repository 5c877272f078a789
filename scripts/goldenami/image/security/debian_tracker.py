"""Debian's security tracker: by source package and codename, which version mends a vulnerability, if one does.

Its form: source -> CVE -> {"releases": {codename: {"status", "fixed_version", "urgency", "repositories"}}}. The whole
document as objects takes half a gigabyte of memory, so one source package is read after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from debian.debian_support import Version

from goldenami.core.errors import Unreachable
from goldenami.image.security.components import SourcePackage
from goldenami.image.security.feeds import FeedData
from goldenami.model.builds.security_records import Feed, Rating, Vulnerability

_GAP = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
UNIMPORTANT, END_OF_LIFE = "unimportant", "end-of-life"
"""Urgencies (security-tracker documentation): a flaw without consequence in Debian; no fix will come."""


def parse(data: bytes, wanted: Iterable[tuple[SourcePackage, str]]) -> FeedData:
    """What the tracker has against the source packages, each with the codename of its release.

    Unreachable for data of another form, and where it knows nothing of one of these releases.
    """
    asked = dict[str, list[tuple[str, str]]]()
    for source, codename in wanted:
        asked.setdefault(source.name, []).append((source.version, codename))
    releases = {codename for rows in asked.values() for _, codename in rows}
    entries, seen, found = 0, set[str](), list[Vulnerability]()
    try:
        for name, issues in _sources(data.decode()):
            entries += len(issues)
            seen |= releases & {codename for issue in issues.values() for codename in issue.get("releases", {})} \
                if seen != releases else set()
            for version, codename in asked.get(name, ()):
                found += _against(name, version, codename, issues)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise Unreachable(f"is no tracker's data: {error}") from None
    if seen != releases:
        raise Unreachable(f"has no entry of {', '.join(sorted(releases - seen))}")
    return FeedData(entries, None, found)


def _sources(text: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Each member of the top object; ValueError where it does not end as an object does."""
    decoder, at = json.JSONDecoder(), text.index("{") + 1
    while True:
        match = _GAP.match(text, at)
        at = match.end() if match else at
        if text[at:at + 1] == "}":
            return
        name, at = decoder.raw_decode(text, at)
        if not (colon := _COLON.match(text, at)):
            raise ValueError(f"no value at character {at}")
        issues, at = decoder.raw_decode(text, colon.end())
        yield name, issues


def _against(name: str, version: str, codename: str, issues: dict[str, dict[str, Any]]) -> Iterator[Vulnerability]:
    for identifier, issue in issues.items():
        state = issue["releases"].get(codename)
        if state is None or state.get("urgency") == UNIMPORTANT:
            continue
        fix = state.get("fixed_version", "") if state["status"] == "resolved" else ""
        if state["status"] == "resolved" and not Version(version) < Version(fix):
            continue  # "0": it never was in this release
        yield Vulnerability(id=identifier, feed=Feed.DEBIAN, part=name, version=version, fix=fix,
                            rating=rating(str(state.get("urgency", ""))), detail=_detail(state))


def rating(urgency: str) -> Rating:
    """Debian's urgency; asterisks mark one that a person did not set. What has reached its end counts as high."""
    word = urgency.rstrip("*")
    return Rating.HIGH if word == END_OF_LIFE else Rating(word) if word in set(Rating) else Rating.UNKNOWN


def _detail(state: dict[str, Any]) -> str:
    if state.get("urgency") == END_OF_LIFE:
        return "Debian has ended its support of this package: no fix will come"
    return str(state.get("nodsa", "")) or ("" if state["status"] == "resolved" else str(state["status"]))
