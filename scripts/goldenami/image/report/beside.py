"""What the report shows beside bake and verify: where the build is published, what is known of it,
which files it has.

Records of later stages are read as plain JSON, as the lock is; a file that is not there is left
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from goldenami.core import records
from goldenami.image.report.view import Fact
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.gpu_proofs import ATTEST_FILE, GpuTestRecord
from goldenami.model.builds.hardening_records import (
    HARDENING_FILE,
    HardeningLevel,
    HardeningRecord,
    RuleOutcome,
)
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Rating, Vulnerability

FILES = {
    "lock.json": "the lock", "bake.json": "what bake did", "verify.json": "what verify saw",
    "publish.json": "where it is published", CVE_FILE: "known vulnerabilities",
    "cve.vex.json": "why some of them do not matter, as VEX",
    "sbom.cdx.json": "bill of materials, CycloneDX", "sbom.spdx.json": "bill of materials, SPDX",
    "provenance": "what is signed of it, by region", "hardening.json": "hardening, rule by rule",
    "coverage.json": "the code that was read", "junit.xml": "the checks as JUnit",
    "serial-bios.log": "console of the boot under BIOS",
    "serial-uefi.log": "console of the boot under UEFI",
}
"""Files of a build that a reader may want, with what they are."""
NO_GPU = "no GPU has run this build"
"""What stands beside the verdict of a build for GPUs until `gpu-test` says otherwise."""
LOGS = ("bake", "verify")
"""Stages whose log belongs to one build."""


@dataclass(frozen=True)
class PublishedRow:
    """The build in one region; `template` is the launch template's name and version, "" without
    one."""

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
    return [Fact("GPU test", NO_GPU, f"after publish: make gpu-test IMAGE={lock['image']}")]


def security(folder: BuildFolder) -> CveRecord | None:
    """What is known against the build; None where nobody has asked."""
    path = folder.path / CVE_FILE
    return records.read(path, CveRecord) if path.exists() else None


def vulnerabilities(folder: BuildFolder) -> list[Fact]:
    """The same in a line."""
    found = security(folder)
    if found is None:
        return []
    stops = sum(each.stops for each in found.findings)
    return [Fact("Vulnerabilities", rated(found.findings) or "none is known",
                 f"{stops} of them stop{'s' if stops == 1 else ''} a publish; asked "
                 f"{found.checked_at}")]


@dataclass(frozen=True)
class PartRow:
    """All that is known against one part of the build: how many by rating, and what follows for how
    many."""

    part: str
    version: str
    rated: str
    stops: int
    waived: int


def by_part(found: CveRecord | None) -> tuple[PartRow, ...]:
    """The findings of each part, first those that stop a publish, then by their number."""
    parts: dict[tuple[str, str], list[Vulnerability]] = {}
    for finding in found.findings if found else ():
        parts.setdefault((finding.part, finding.version), []).append(finding)
    rows = [PartRow(part, version, rated(findings), sum(each.stops for each in findings),
                    sum(bool(each.waived) for each in findings))
            for (part, version), findings in parts.items()]
    return tuple(sorted(rows,
                        key=lambda row: (-row.stops, -len(parts[row.part, row.version]), row.part)))


def day(folder: BuildFolder) -> date:
    """The day for which the page says what is supported: of the newest record, since no clock is
    read."""
    found = security(folder)
    return date.fromisoformat(
        max(folder.read_bake().started_at, found.checked_at if found else "")[:10]
    )


def records_of(folder: BuildFolder) -> Iterator[tuple[str, str]]:
    """The FILES that there are, by their paths in the build's folder, with what they are; of a
    folder each file."""
    for name, what in FILES.items():
        path = folder.path / name
        for one in sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []:
            yield one.relative_to(folder.path).as_posix(), what


def hardness(folder: BuildFolder) -> list[Fact]:
    """What a guide to hardening says; nothing of a build that was not asked."""
    path = folder.path / HARDENING_FILE
    if not path.exists():
        return []
    record, all_of_it = records.read(path, HardeningRecord), HardeningLevel.ENHANCED
    kinds = {RuleOutcome.WAIVED: "waived with a reason", RuleOutcome.FAIL: "failed",
             RuleOutcome.UNREACHABLE: "unread"}
    return [Fact("Hardening", str(record),
                 ", ".join(f"{record.count(all_of_it, kind)} {said}"
                           for kind, said in kinds.items()))]


def files(folder: BuildFolder, previous: BuildFolder | None) -> tuple[FileLink, ...]:
    """What there is of the build, and the report of the previous one."""
    found = [FileLink(name, name, what) for name, what in records_of(folder)]
    for stage in LOGS:
        log = folder.log(stage)
        if log.exists():
            found.append(FileLink(f"../{log.parent.name}/{log.name}", log.name, f"log of {stage}"))
    if previous and previous.report.exists():
        found.append(FileLink(f"../{previous.build_id}/{previous.report.name}", previous.build_id,
                              "report of the previous build"))
    return tuple(found)


def rated(findings: Iterable[Vulnerability]) -> str:
    """How many there are of each rating, the worst first: "2 high, 5 unknown"."""
    counts = Counter(each.rating for each in findings)
    return ", ".join(f"{counts[rating]} {rating}" for rating in reversed(Rating) if counts[rating])


def _read(path: Path) -> dict[str, Any] | None:
    """A record as plain JSON; None where there is none."""
    return records.read_object(path) if path.exists() else None
