"""NVIDIA's security bulletins (CSAF 2.0), a ZIP of its repository, for the GPU display driver on
Linux.

Their versions are prose: under the branch `Linux(R535)` a product is named "All driver versions
prior to 535.309.01". A sentence that is not understood is an error, never "not affected".
"""

from __future__ import annotations

import datetime
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from goldenami.core.errors import Unreachable
from goldenami.image.cve.feeds import FeedData
from goldenami.model.builds.security_records import Feed, Vulnerability
from goldenami.model.supported import compatibility
from goldenami.model.supported.compatibility import DriverTable
from goldenami.model.supported.scales import Rating

_BULLETIN = re.compile(r"(?:^|/)(\d+)/\1\.json$")
_TITLE = re.compile(r"GPU Display Driver", re.IGNORECASE)
_LINUX = re.compile(r"^Linux\s*\(R(\d+)\)$")
_PRIOR = re.compile(
    r"^All (?:drivers? )?versions (?:up to, but not including|prior to) (\d+(?:\.\d+)+)\b"
)
_ALL = re.compile(r"^All (?:drivers? )?versions\.?$")
PART = "nvidia-driver"


@dataclass(frozen=True)
class Bulletin:
    """A bulletin, and the branches of Linux drivers that it names."""

    released: datetime.date
    branches: frozenset[str]
    document: dict[str, Any]


def parse(data: bytes, driver: str, sm: Sequence[str], drivers: DriverTable) -> FeedData:
    """The bulletins' vulnerabilities of `driver` ("535.261.03"). Raises Unreachable if data or
    sentences have another form.

    A branch that the newest bulletin does not name is a finding by itself: it gets no fixes, and
    nobody says of what. Its successors are branches that run GPUs of the compute capabilities `sm`.
    """
    try:
        documents = list(_documents(data))
        driver_bulletins = sorted(
            (
                _bulletin(document)
                for document in documents
                if _TITLE.search(document["document"]["title"])
            ),
            key=lambda bulletin: bulletin.released,
        )
        changed = max(
            (_day(document, "current_release_date") for document in documents), default=None
        )
        findings = [
            finding for bulletin in driver_bulletins for finding in _against(bulletin, driver)
        ]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(f"is no archive of NVIDIA's bulletins: {error!r}") from None
    newest = next((bulletin for bulletin in reversed(driver_bulletins) if bulletin.branches), None)
    if newest is None:
        raise Unreachable("has no bulletin of the GPU display driver for Linux")
    branch = driver.partition(".")[0]
    if branch not in newest.branches:
        findings.append(
            ended(
                driver,
                successors(branch, newest.branches, sm, drivers),
                f"is not in NVIDIA's bulletin of {newest.released}",
            )
        )
    return FeedData(len(documents), changed, _worst(findings))


def successors(
    branch: str, branches: frozenset[str] | set[str], sm: Sequence[str], drivers: DriverTable
) -> list[str]:
    """The newer ones of `branches` that run all of the GPUs."""
    return sorted(
        candidate
        for candidate in branches
        if int(candidate) > int(branch) and not drivers.branch_refusal(candidate, list(sm))
    )


def ended(driver: str, next_branches: Sequence[str], why: str) -> Vulnerability:
    """The finding that the driver's branch gets no more fixes, because of `why`."""
    branch = driver.partition(".")[0]
    advice = (
        f"its successors are {', '.join(next_branches)}"
        if next_branches
        else "no branch succeeds it for these GPUs"
    )
    return Vulnerability(
        id=f"driver-branch-{branch}",
        feed=Feed.NVIDIA,
        part=PART,
        version=driver,
        rating=Rating.HIGH,
        detail=f"driver branch {branch} {why}: no more fixes of its own come; {advice}",
    )


def _documents(data: bytes) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if _BULLETIN.search(name):
                yield json.loads(archive.read(name))


def _day(document: dict[str, Any], key: str) -> datetime.date:
    return datetime.datetime.fromisoformat(document["document"]["tracking"][key]).date()


def _bulletin(document: dict[str, Any]) -> Bulletin:
    branches = {branch for branch, _ in _products(document).values()}
    return Bulletin(_day(document, "initial_release_date"), frozenset(branches), document)


def _products(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Products of Linux drivers by their ids: the branch, and NVIDIA's words for the versions."""
    products: dict[str, tuple[str, str]] = {}

    def walk(rows: list[dict[str, Any]], branch: str) -> None:
        for row in rows:
            match = _LINUX.match(row.get("name", ""))
            row_branch = match[1] if match else branch
            if row_branch and "product" in row:
                products[row["product"]["product_id"]] = (
                    row_branch,
                    row["product"]["name"].strip(),
                )
            walk(row.get("branches", []), row_branch)

    walk(document.get("product_tree", {}).get("branches", []), "")
    return products


def _against(bulletin: Bulletin, driver: str) -> Iterator[Vulnerability]:
    branch, products = driver.partition(".")[0], _products(bulletin.document)
    for issue in bulletin.document.get("vulnerabilities", []):
        for product in issue.get("product_status", {}).get("known_affected", []):
            of_branch, versions_text = products.get(product, ("", ""))
            if of_branch != branch:
                continue
            fix = _fix(versions_text)
            if not fix or compatibility.version_tuple(driver) < compatibility.version_tuple(fix):
                scores = [
                    score["cvss_v3"] for score in issue.get("scores", []) if "cvss_v3" in score
                ]
                yield Vulnerability(
                    id=issue["cve"],
                    feed=Feed.NVIDIA,
                    part=PART,
                    version=driver,
                    fix=fix,
                    rating=_rating(scores),
                    detail=str(bulletin.document["document"]["title"]),
                )


def _fix(words: str) -> str:
    """The version that fixes it, or "" if none does. Raises ValueError for a sentence that is not
    understood."""
    if match := _PRIOR.match(words):
        return match[1]
    if _ALL.match(words):
        return ""
    raise ValueError(f"does not say which versions: {words!r}")


def _rating(scores: list[dict[str, Any]]) -> Rating:
    words = [str(score.get("baseSeverity", "")).lower() for score in scores]
    return max(
        (Rating(word) for word in words if word in set(Rating)),
        key=list(Rating).index,
        default=Rating.UNKNOWN,
    )


def _worst(findings: list[Vulnerability]) -> list[Vulnerability]:
    """Each vulnerability once, with the highest fix: several products of a branch are one driver,
    and that fix covers all of them."""
    best = dict[str, Vulnerability]()
    for finding in findings:
        earlier = best.get(finding.id)
        if (
            earlier is None
            or not finding.fix
            or (
                earlier.fix
                and compatibility.version_tuple(earlier.fix)
                < compatibility.version_tuple(finding.fix)
            )
        ):
            best[finding.id] = finding
    return list(best.values())
