"""Debian's security tracker: by source package and codename, which version mends a vulnerability,
if one does.

Its form: source -> CVE -> {"releases": {codename: {"status", "fixed_version", "urgency",
"repositories"}}}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from debian.debian_support import Version

from goldenami.core.errors import Unreachable
from goldenami.image.cve.feeds import FeedData
from goldenami.model.builds.security_records import Feed, Vulnerability
from goldenami.model.supported.scales import Rating

UNIMPORTANT, END_OF_LIFE = "unimportant", "end-of-life"
"""Urgencies (security-tracker documentation): a flaw without consequence in Debian; no fix will
come."""


def parse(data: bytes, wanted: Mapping[str, Mapping[str, Sequence[str]]]) -> FeedData:
    """What the tracker has against the `wanted` versions by codename and source package.

    Unreachable for data of another form, and where it knows nothing of one of these releases.
    """

    def slim(found: dict[str, Any]) -> dict[str, Any]:
        """Of a vulnerability just the states that are asked for: all of them take half a
        gigabyte."""
        if "releases" not in found:
            return found
        return {name: state for name, state in found["releases"].items() if name in wanted}

    known, found = set[str](), list[Vulnerability]()
    try:
        tracker = json.loads(data, object_hook=slim)
        for issues in tracker.values():
            known.update(*issues.values())
        for codename, sources in wanted.items():
            for source, versions in sources.items():
                for version in versions:
                    found += _against(source, version, codename, tracker.get(source, {}))
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise Unreachable(f"is no tracker's data: {error}") from None
    if lost := wanted.keys() - known:
        raise Unreachable(f"has no entry of {', '.join(sorted(lost))}")
    return FeedData(sum(map(len, tracker.values())), None, found)


def _against(
    source: str, version: str, codename: str, issues: dict[str, Any]
) -> Iterator[Vulnerability]:
    for identifier, issue in issues.items():
        state = issue.get(codename)
        if state is None or state.get("urgency") == UNIMPORTANT:
            continue
        fix = state.get("fixed_version", "") if state["status"] == "resolved" else ""
        if state["status"] == "resolved" and not Version(version) < Version(fix):
            continue  # "0": it never was in this release
        yield Vulnerability(
            id=identifier,
            feed=Feed.DEBIAN,
            part=source,
            version=version,
            fix=fix,
            rating=rating(str(state.get("urgency", ""))),
            detail=_detail(state),
        )


def rating(urgency: str) -> Rating:
    """Debian's urgency; asterisks mark one that a person did not set. What has reached its end
    counts as high."""
    word = urgency.rstrip("*")
    if word == END_OF_LIFE:
        return Rating.HIGH
    return Rating(word) if word in set(Rating) else Rating.UNKNOWN


def _detail(state: dict[str, Any]) -> str:
    if state.get("urgency") == END_OF_LIFE:
        return "Debian has ended its support of this package: no fix will come"
    return str(state.get("nodsa", "")) or (
        "" if state["status"] == "resolved" else str(state["status"])
    )
