"""The found vulnerabilities for other programs: CycloneDX VEX, which refers to the parts in the
build's bill."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.impact_analysis import ImpactAnalysisState
from cyclonedx.model.vulnerability import (
    BomTarget,
    Vulnerability,
    VulnerabilityAnalysis,
    VulnerabilityRating,
    VulnerabilitySeverity,
    VulnerabilitySource,
)

from goldenami.image.cve.waivers import Waiver
from goldenami.image.sbom import cyclonedx
from goldenami.image.sbom.components import Materials
from goldenami.model.builds.security_records import CveRecord, Feed
from goldenami.model.builds.security_records import Vulnerability as Finding

_SOURCES = {
    Feed.DEBIAN: "Debian security tracker",
    Feed.UBUNTU: "OSV",
    Feed.PYPI: "OSV",
    Feed.ALPINE: "OSV",
    Feed.NONE: "goldenami",
    Feed.NVIDIA: "NVIDIA",
    Feed.KEV: "CISA",
}


def document(record: CveRecord, materials: Materials, waived: dict[str, Waiver]) -> dict[str, Any]:
    """The VEX document of `record`; `waived` are waivers by the finding's id."""
    image = Component(
        type=ComponentType.OPERATING_SYSTEM, name=record.image, version=record.build_id
    )
    at = datetime.datetime.fromisoformat(record.checked_at)
    bom = Bom(
        serial_number=uuid.uuid5(
            uuid.NAMESPACE_OID, f"vex {record.lock_sha256} {record.checked_at}"
        ),
        metadata=cyclonedx.metadata(image, at),
        vulnerabilities=[
            _row(finding, materials, waived.get(finding.id)) for finding in record.findings
        ],
    )
    return cyclonedx.rendered(bom)


def _row(finding: Finding, materials: Materials, waiver: Waiver | None) -> Vulnerability:
    bill = cyclonedx.serial(materials)
    return Vulnerability(
        bom_ref=f"{finding.id}/{finding.part}",
        id=finding.id,
        source=VulnerabilitySource(name=_SOURCES[finding.feed]),
        ratings=[VulnerabilityRating(severity=VulnerabilitySeverity(finding.rating.value))],
        description=finding.detail or None,
        recommendation=f"Update {finding.part} to {finding.fix}" if finding.fix else None,
        analysis=_analysis(finding, waiver),
        affects=[BomTarget(ref=f"urn:cdx:{bill}/1#{ref}") for ref in _refs(finding, materials)],
    )


def _analysis(finding: Finding, waiver: Waiver | None) -> VulnerabilityAnalysis:
    if waiver is None:
        state = ImpactAnalysisState.EXPLOITABLE if finding.fails else ImpactAnalysisState.IN_TRIAGE
        return VulnerabilityAnalysis(state=state)
    return VulnerabilityAnalysis(
        state=waiver.status, justification=waiver.justification, detail=waiver.reason
    )


def _refs(finding: Finding, materials: Materials) -> list[str]:
    """The parts that a finding is about, by their names in the bill."""
    return [
        part.ref
        for part in materials.parts
        if (
            part.source
            and (part.source.name, part.source.version) == (finding.part, finding.version)
        )
        or (finding.feed is Feed.NVIDIA and part.cpe)
        or (
            finding.feed is Feed.PYPI
            and (part.name, part.version) == (finding.part, finding.version)
        )
    ]
