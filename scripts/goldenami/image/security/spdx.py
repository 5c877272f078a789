"""A bill of materials as SPDX 2.3 JSON. What the build has no licence of is NOASSERTION."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

from goldenami.core import clock
from goldenami.image.security.components import ImagePart, Materials

_UNKNOWN = "NOASSERTION"
_IMAGE = "SPDXRef-image"
_REFERENCE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def document(materials: Materials) -> dict[str, Any]:
    """The bill, dated by the image's newest package."""
    lock = materials.lock
    created = clock.stamp(datetime.datetime.fromtimestamp(lock.source_date_epoch, datetime.UTC))
    image = {"SPDXID": _IMAGE, "name": lock.image, "versionInfo": materials.build_id, "summary": lock.description,
             "primaryPackagePurpose": "OPERATING-SYSTEM", **_unsaid()}
    found = {part.ref: part for part in _all(materials.parts)}
    references = {name for part in materials.parts for name in _REFERENCE.findall(part.licence)}
    document = {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{lock.image}-{materials.build_id}",
        "documentNamespace": f"https://spdx.org/spdxdocs/{lock.image}-{materials.lock_sha256}",
        "creationInfo": {"created": created, "creators": ["Tool: goldenami"]},
        "packages": [image, *map(_package, found.values())],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE),
            *(_relation(_IMAGE, "CONTAINS", _id(part)) for part in materials.parts),
            *(_relation(_id(part), "GENERATED_FROM", _id(one)) for part in materials.parts for one in part.ancestors),
            *(_relation(_id(part), "DEPENDS_ON", f"SPDXRef-{ref}") for part in materials.parts for ref in part.depends),
        ],
        "hasExtractedLicensingInfos": [
            {"licenseId": name, "name": name.removeprefix("LicenseRef-"),
             "extractedText": "the copyright files of its packages have it, below /usr/share/doc"}
            for name in sorted(references)],
    }
    return {key: value for key, value in document.items() if value}


def _all(parts: tuple[ImagePart, ...]) -> Iterator[ImagePart]:
    for part in parts:
        yield part
        yield from part.ancestors


def _id(part: ImagePart) -> str:
    return f"SPDXRef-{part.ref}"


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _unsaid() -> dict[str, Any]:
    return {"downloadLocation": _UNKNOWN, "licenseConcluded": _UNKNOWN, "licenseDeclared": _UNKNOWN,
            "copyrightText": _UNKNOWN, "filesAnalyzed": False}


def _package(part: ImagePart) -> dict[str, Any]:
    references = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": part.purl}]
    references += [{"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": part.cpe}] \
        if part.cpe else []
    facts = [f"{name}: {value}" for name, value in part.properties]
    facts += [f"source: {part.source.name} {part.source.version}"] if part.source else []
    found = {
        "SPDXID": _id(part), "name": part.name, "versionInfo": part.version,
        "supplier": f"Organization: {part.supplier or part.vendor}",
        "checksums": [{"algorithm": "SHA256", "checksumValue": part.sha256}] if part.sha256 else [],
        "externalRefs": references, "comment": "; ".join(facts), **_unsaid(),
        "licenseDeclared": part.licence or _UNKNOWN,
    }
    return {key: value for key, value in found.items() if value not in ([], "")}
