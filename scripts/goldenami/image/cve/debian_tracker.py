"""Debian's security tracker: by source package and codename, the version that fixes a
vulnerability, if there is one.

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
"""Urgencies (security-tracker documentation): a flaw without consequence in Debian, and one that
gets no fix any more."""


def parse(data: bytes, wanted: Mapping[str, Mapping[str, Sequence[str]]]) -> FeedData:
    """The tracker's vulnerabilities of the `wanted` versions, which are by codename and source
    package.

    Raises Unreachable if the data has another form, or nothing about one of these releases.
    """

    def slim(issue: dict[str, Any]) -> dict[str, Any]:
        """Only the states of the wanted releases."""
        # All states together take half a gigabyte of memory.
        if "releases" not in issue:
            return issue
        return {name: state for name, state in issue["releases"].items() if name in wanted}

    codenames, findings = set[str](), list[Vulnerability]()
    try:
        tracker = json.loads(data, object_hook=slim)
        for issues in tracker.values():
            codenames.update(*issues.values())
        for codename, sources in wanted.items():
            for source, versions in sources.items():
                for version in versions:
                    findings += _against(source, version, codename, tracker.get(source, {}))
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise Unreachable(f"is no tracker's data: {error}") from None
    if missing := wanted.keys() - codenames:
        raise Unreachable(f"has no entry of {', '.join(sorted(missing))}")
    return FeedData(sum(map(len, tracker.values())), None, findings)


def _against(
    source: str, version: str, codename: str, issues: dict[str, Any]
) -> Iterator[Vulnerability]:
    for identifier, issue in issues.items():
        state = issue.get(codename)
        if state is None or state.get("urgency") == UNIMPORTANT:
            continue
        fix = state.get("fixed_version", "") if state["status"] == "resolved" else ""
        # The fixed version "0" means that this release never had the flaw.
        if state["status"] == "resolved" and not Version(version) < Version(fix):
            continue
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
    """The rating for an urgency of Debian's. Asterisks mark one that no person set. End of life
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
