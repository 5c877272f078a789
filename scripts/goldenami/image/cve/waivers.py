"""packer/waivers.yml: findings that somebody has examined and lets pass, for a time, with a reason.

A waiver that has expired or excuses nothing is an error with its line: a stale list would excuse
the next finding unseen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from cyclonedx.model.impact_analysis import ImpactAnalysisJustification, ImpactAnalysisState
from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.records import Record
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model.builds.security_records import Vulnerability

PATH = "packer/waivers.yml"
NOTICE = timedelta(days=14)
"""Time before its end from which a waiver is announced."""


class WaiverKind(StrEnum):
    """The kind of finding that passes: a vulnerability, or a driver branch that has ended."""

    VULNERABILITY = "vulnerability"
    BRANCH = "branch"


LONGEST = {
    ImpactAnalysisState.IN_TRIAGE: 90,
    ImpactAnalysisState.EXPLOITABLE: 180,
    ImpactAnalysisState.NOT_AFFECTED: 365,
    ImpactAnalysisState.FALSE_POSITIVE: 365,
}
"""Most days from today that a waiver may last, by status: what nobody has understood yet is
examined again first."""


class Waiver(Record):
    """One waiver, in the words of CycloneDX's impact analysis; `by` is the person who answers for
    it."""

    id: Annotated[str, Field(min_length=1)]
    kind: Annotated[WaiverKind, Field(strict=False)]
    images: Annotated[list[str], Field(min_length=1)]
    status: Annotated[ImpactAnalysisState, Field(strict=False)]
    justification: Annotated[ImpactAnalysisJustification | None, Field(strict=False)] = None
    reason: Annotated[str, Field(min_length=10)]
    expires: date
    by: Annotated[str, Field(min_length=1)]


class _WaiverList(Record):
    waivers: list[Waiver]


@dataclass(frozen=True)
class Waivers:
    """The waivers of a checkout, in the order of the file."""

    source: YamlFile
    rows: tuple[Waiver, ...]

    def of(self, image: str) -> dict[int, Waiver]:
        """The waivers of an image, by their index in the file."""
        return {at: row for at, row in enumerate(self.rows) if image in row.images}

    def warnings(self, image: str, today: date) -> list[str]:
        """A line for each of the image's waivers that ends soon."""
        return [
            f"{self.source.path}:{self.source.lines['waivers', at]}: "
            f"the waiver of {row.id} ends on {row.expires}, in {(row.expires - today).days} days"
            for at, row in self.of(image).items()
            if row.expires - today <= NOTICE
        ]

    def apply(
        self, image: str, findings: Iterable[Vulnerability], *, complete: bool
    ) -> list[Vulnerability]:
        """The findings, with their waivers noted. If the findings are `complete`, raises BadInput
        for a waiver that excuses none of them."""
        by_index, used, result = self.of(image), set[int](), list[Vulnerability]()
        for finding in findings:
            kind = (
                WaiverKind.BRANCH
                if finding.id.startswith("driver-branch-")
                else WaiverKind.VULNERABILITY
            )
            index = next(
                (
                    index
                    for index, row in by_index.items()
                    if (row.id, row.kind) == (finding.id, kind)
                ),
                None,
            )
            if index is not None:
                used.add(index)
            result.append(
                finding
                if index is None
                else finding.model_copy(update={"waived": _note(by_index[index])})
            )
        for index, row in by_index.items():
            if complete and index not in used:
                raise self.source.error(
                    ("waivers", index, "id"),
                    f"{row.id} excuses nothing of {image}",
                    hint="take the waiver, or this image, out of the list",
                )
        return result


def _note(waiver: Waiver) -> str:
    return f"{waiver.status.value} until {waiver.expires}, says {waiver.by}: {waiver.reason}"


def load(root: Path, images: Collection[str], today: date) -> Waivers:
    """The waivers. Raises BadInput with file and line for one that is invalid or has expired."""
    source = yaml_lines.load(root / PATH)
    rows = yaml_lines.validate(source, _WaiverList).waivers
    for index, row in enumerate(rows):
        if problem := _problem(row, images, today):
            key, message = problem
            raise source.error(("waivers", index, key), message)
        if any(
            (earlier.id, earlier.kind) == (row.id, row.kind)
            and set(earlier.images) & set(row.images)
            for earlier in rows[:index]
        ):
            raise source.error(("waivers", index, "id"), f"{row.id} is waived twice for one image")
    return Waivers(source, tuple(rows))


def _problem(row: Waiver, images: Collection[str], today: date) -> tuple[str, str] | None:
    """The key and the message of a waiver's mistake, or None."""
    if unknown := [image for image in row.images if image not in images]:
        return "images", f"no image `{unknown[0]}`; {nearest(unknown[0], images)}"
    if row.expires < today:
        return (
            "expires",
            f"the waiver of {row.id} expired on {row.expires}: mend it, or look at it again",
        )
    if row.status not in LONGEST:
        return (
            "status",
            f"{row.status.value} is none of {', '.join(status.value for status in LONGEST)}",
        )
    if (row.expires - today).days > LONGEST[row.status]:
        return (
            "expires",
            f"is more than {LONGEST[row.status]} days ahead, the most for {row.status.value}",
        )
    if (row.status is ImpactAnalysisState.NOT_AFFECTED) != (row.justification is not None):
        return "status", "not_affected needs a justification, and only it has one"
    return None
