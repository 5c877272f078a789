"""What was found, for other programs: CycloneDX VEX, whose vulnerabilities refer to the parts of the build's bill."""

from __future__ import annotations

import uuid
from typing import Any

from goldenami.image.security import cyclonedx
from goldenami.image.security.components import Materials
from goldenami.image.security.waivers import Waiver
from goldenami.model.builds.security_records import CveRecord, Feed, Vulnerability

_SOURCES = {Feed.DEBIAN: "Debian security tracker", Feed.UBUNTU: "OSV", Feed.PYPI: "OSV", Feed.NVIDIA: "NVIDIA",
            Feed.KEV: "CISA"}


def document(record: CveRecord, materials: Materials, waived: dict[str, Waiver]) -> dict[str, Any]:
    """The document; `waived` are the waivers by the finding's id."""
    serial = uuid.uuid5(uuid.NAMESPACE_OID, f"vex {record.lock_sha256} {record.checked_at}")
    rows = [_row(finding, materials, waived.get(finding.id)) for finding in record.findings]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "version": 1, "serialNumber": f"urn:uuid:{serial}",
        "metadata": {"timestamp": record.checked_at,
                     "tools": {"components": [{"type": "application", "name": "goldenami"}]},
                     "component": {"type": "operating-system", "name": record.image, "version": record.build_id}},
        "vulnerabilities": rows,
    }


def _row(finding: Vulnerability, materials: Materials, waiver: Waiver | None) -> dict[str, Any]:
    bill = cyclonedx.serial(materials)
    analysis: dict[str, Any] = {"state": "exploitable" if finding.fails else "in_triage"}
    if waiver:
        analysis = {"state": waiver.status.value, "detail": waiver.reason}
        analysis |= {"justification": waiver.justification.value} if waiver.justification else {}
    found = {
        "bom-ref": f"{finding.id}/{finding.part}", "id": finding.id, "source": {"name": _SOURCES[finding.feed]},
        "ratings": [{"severity": finding.rating.value}], "description": finding.detail,
        "recommendation": f"Update {finding.part} to {finding.fix}" if finding.fix else "", "analysis": analysis,
        "affects": [{"ref": f"urn:cdx:{bill}/1#{ref}"} for ref in _refs(finding, materials)],
    }
    return {key: value for key, value in found.items() if value}


def _refs(finding: Vulnerability, materials: Materials) -> list[str]:
    """The parts of the bill that have it: all packages of a source, a wheel, the driver's modules."""
    return [part.ref for part in materials.parts
            if (part.source and (part.source.name, part.source.version) == (finding.part, finding.version))
            or (finding.feed is Feed.NVIDIA and part.cpe)
            or (finding.feed is Feed.PYPI and (part.name, part.version) == (finding.part, finding.version))]
