"""A bill of materials as SPDX 2.3 JSON. A licence that the build does not record is NOASSERTION."""

from __future__ import annotations

import datetime
import re
from typing import Any

from goldenami.core import clock
from goldenami.image.sbom.components import ImagePart, Materials

_UNSAID = {
    "downloadLocation": "NOASSERTION",
    "licenseConcluded": "NOASSERTION",
    "licenseDeclared": "NOASSERTION",
    "copyrightText": "NOASSERTION",
    "filesAnalyzed": False,
}
_REFERENCE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_ELSEWHERE = "the copyright files of its packages have it, below /usr/share/doc"


def document(materials: Materials) -> dict[str, Any]:
    """The bill of `materials`, dated by the image's newest package."""
    lock, parts = materials.lock, materials.parts
    image = {
        "SPDXID": "SPDXRef-image",
        "name": lock.image,
        "versionInfo": materials.build_id,
        "summary": lock.description,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        **_UNSAID,
    }
    by_ref = {item.ref: item for part in parts for item in (part, *part.ancestors)}
    references = {name for part in parts for name in _REFERENCE.findall(part.licence)}
    created = datetime.datetime.fromtimestamp(lock.source_date_epoch, datetime.UTC)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{lock.image}-{materials.build_id}",
        "documentNamespace": f"https://spdx.org/spdxdocs/{lock.image}-{materials.lock_sha256}",
        "creationInfo": {"created": clock.stamp(created), "creators": ["Tool: goldenami"]},
        "packages": [image, *map(_package, by_ref.values())],
        "relationships": _relations(parts),
        "hasExtractedLicensingInfos": [
            {
                "licenseId": name,
                "name": name.removeprefix("LicenseRef-"),
                "extractedText": _ELSEWHERE,
            }
            for name in sorted(references)
        ],
    }


def _relations(parts: tuple[ImagePart, ...]) -> list[dict[str, str]]:
    rows = [("DOCUMENT", "DESCRIBES", "image")]
    for part in parts:
        rows.append(("image", "CONTAINS", part.ref))
        rows += [(part.ref, "GENERATED_FROM", ancestor.ref) for ancestor in part.ancestors]
        rows += [(part.ref, "DEPENDS_ON", ref) for ref in part.depends]
    return [
        {
            "spdxElementId": f"SPDXRef-{subject}",
            "relationshipType": kind,
            "relatedSpdxElement": f"SPDXRef-{target}",
        }
        for subject, kind, target in rows
    ]


def _package(part: ImagePart) -> dict[str, Any]:
    names = [("PACKAGE-MANAGER", "purl", part.purl), ("SECURITY", "cpe23Type", part.cpe)]
    facts = [f"{name}: {value}" for name, value in part.properties]
    facts += [f"source: {part.source.name} {part.source.version}"] if part.source else []
    checksums = [{"algorithm": "SHA256", "checksumValue": part.sha256}] if part.sha256 else []
    return {
        "SPDXID": f"SPDXRef-{part.ref}",
        "name": part.name,
        "versionInfo": part.version,
        "supplier": f"Organization: {part.supplier or part.vendor}",
        "checksums": checksums,
        "externalRefs": [
            {"referenceCategory": category, "referenceType": kind, "referenceLocator": name}
            for category, kind, name in names
            if name
        ],
        **_UNSAID,
        "licenseDeclared": part.licence or "NOASSERTION",
        "downloadLocation": part.url or "NOASSERTION",
    } | ({"comment": "; ".join(facts)} if facts else {})
