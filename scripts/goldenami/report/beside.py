"""What the report shows beside bake and verify: where the build is published, what is known of it, which files it has.

Records of later stages are read as plain JSON, as the lock is; a file that is not there is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.model.build_folder import BuildFolder
from goldenami.model.gpu_proofs import ATTEST_FILE, GpuTestRecord
from goldenami.model.security_records import CVE_FILE, CveRecord, Rating
from goldenami.report.view import Fact

FILES = {
    "lock.json": "the lock", "bake.json": "what bake did", "verify.json": "what verify saw",
    "publish.json": "where it is published", CVE_FILE: "known vulnerabilities",
    "sbom.cdx.json": "bill of materials, CycloneDX", "sbom.spdx.json": "bill of materials, SPDX",
    "coverage.json": "the code that was read", "junit.xml": "the checks as JUnit",
    "serial-bios.log": "console of the boot under BIOS", "serial-uefi.log": "console of the boot under UEFI",
}
"""Files of a build that a reader may want, with what they are."""
LOGS = ("bake", "verify")
"""Stages whose log belongs to one build."""


@dataclass(frozen=True)
class PublishedRow:
    """The build in one region; `template` is the launch template's name and version, "" without one."""

    region: str
    ami: str
    snapshot: str
    channels: str
    template: str


@dataclass(frozen=True)
class Publication:
    """Where the build was published, and since when."""

    at: str
    account: str
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class FileLink:
    """A file: its address from the page, its name and what it is."""

    href: str
    name: str
    what: str


def publication(folder: BuildFolder) -> Publication | None:
    """What publish.json says; None of a build that was not published from here."""
    record = _read(folder.publish)
    if record is None:
        return None
    rows = tuple(PublishedRow(
        region, entry["ami"], entry["snapshot"], ", ".join(entry["channels"]),
        f"{entry['template']} {entry['template_version']}" if entry.get("template") else "",
    ) for region, entry in sorted(record["regions"].items()))
    return Publication(record["published_at"], record["account"], rows)


def gpu_test(folder: BuildFolder, lock: Mapping[str, Any]) -> list[Fact]:
    """Whether a GPU has run the build; nothing of an image without one."""
    if not (lock.get("hardware") or {}).get("sm"):
        return []
    if (path := folder.path / ATTEST_FILE).exists():
        record = records.read(path, GpuTestRecord)
        return [Fact("GPU test", str(record), f"{len(record.checks)} checks, {record.at}")]
    said = str((_read(folder.publish) or {}).get("gpu", ""))
    if said.startswith("tested"):
        return [Fact("GPU test", said)]
    return [Fact("GPU test", "no GPU has run this build", f"after publish: golden gpu-test {lock['image']}")]


def security(folder: BuildFolder) -> CveRecord | None:
    """What is known against the build; None where nobody has asked."""
    path = folder.path / CVE_FILE
    return records.read(path, CveRecord) if path.exists() else None


def vulnerabilities(folder: BuildFolder) -> list[Fact]:
    """The same in a line."""
    found = security(folder)
    if found is None:
        return []
    counts = Counter(each.rating for each in found.findings)
    rated = ", ".join(f"{counts[rating]} {rating}" for rating in reversed(Rating) if counts[rating])
    stops = sum(each.stops for each in found.findings)
    return [Fact("Vulnerabilities", rated or "none is known",
                 f"{stops} of them stop a publish; asked {found.checked_at}")]


def files(folder: BuildFolder, previous: BuildFolder | None) -> tuple[FileLink, ...]:
    """What there is of the build, and the report of the previous one."""
    found = [FileLink(name, name, what) for name, what in FILES.items() if (folder.path / name).exists()]
    for stage in LOGS:
        log = folder.log(stage)
        if log.exists():
            found.append(FileLink(f"../{log.parent.name}/{log.name}", log.name, f"log of {stage}"))
    if previous and previous.report.exists():
        found.append(FileLink(f"../{previous.build_id}/{previous.report.name}", previous.build_id,
                              "report of the previous build"))
    return tuple(found)


def _read(path: Path) -> dict[str, Any] | None:
    """A record as plain JSON; None where there is none."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: {error}", hint="the stage that wrote it writes it again") from None
    if not isinstance(record, dict):
        raise BadInput(f"{path} is no record", hint="the stage that wrote it writes it again")
    return record
