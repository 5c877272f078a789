"""Projects of a Python package index, by its JSON interface (https://peps.python.org/pep-0691/)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from goldenami.core.errors import GoldenError
from goldenami.model.definitions.update_policy import VersionOffer
from goldenami.packages import http_documents, project_pages
from goldenami.packages.pypi import Index
from goldenami.watch.sources.source_records import SourceStatus


def read_versions(
    name: str, index: Callable[[], Index] = Index.configured
) -> tuple[SourceStatus, list[VersionOffer]]:
    """Return the source, and every version that is not withdrawn, with the day of its first
    file."""
    title = f"Python index: {name}"
    try:
        where, page = index().page(canonicalize_name(name))
        offers = parse(page, where, title)
    except GoldenError as error:
        return SourceStatus(name=title, error=error.message), []
    changed = ""
    if days := [offer.released for offer in offers if offer.released]:
        changed = max(days).isoformat()
    return SourceStatus(name=title, changed=changed), offers


def parse(document: http_documents.Document, where: str, title: str) -> list[VersionOffer]:
    """Return the offers of one project page. Raises Unreachable if it is no such page."""
    released: dict[str, date | None] = {}
    for file in project_pages.listed(document, where):
        version, day = _version(file), _day(file)
        if version is not None:
            first_day = released.get(version)
            if first_day is None:
                released[version] = day
            # Files of one version may come days apart; its age counts from the first.
            elif day:
                released[version] = min(first_day, day)
    return [
        VersionOffer(version, branch(version), title, released=day)
        for version, day in released.items()
    ]


def branch(version: str) -> str:
    """The series within which a framework's fixes are released: "2.9.1" -> "2.9"."""
    return ".".join(version.split(".")[:2])


def order(version: str) -> Version:
    """Sort key for Python's order of versions (PEP 440), for `judge`."""
    return Version(version)


def _version(file: Any) -> str | None:
    if not isinstance(file, dict) or file.get("yanked"):
        return None
    name = str(file.get("filename", ""))
    try:
        if name.endswith(".whl"):
            version = parse_wheel_filename(name)[1]
        else:
            version = parse_sdist_filename(name)[1]
    except (InvalidWheelFilename, InvalidVersion, ValueError):
        return None
    if version.is_prerelease:
        return None
    return str(version)


def _day(file: dict[str, Any]) -> date | None:
    try:
        return datetime.fromisoformat(str(file["upload-time"])).astimezone(UTC).date()
    # An index may send any date; one near year 1 or 9999 overflows in another time zone.
    except (KeyError, ValueError, OverflowError):
        return None
