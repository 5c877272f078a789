"""A bill of materials as CycloneDX JSON (ECMA-424), with nothing in it that the build does not fix."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from goldenami.core import clock
from goldenami.image.security.components import ImagePart, Materials

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "goldenami")


def serial(materials: Materials) -> uuid.UUID:
    """The bill's serial number: the same lock has the same."""
    return uuid.uuid5(_NAMESPACE, materials.lock_sha256)


def document(materials: Materials, version: str) -> dict[str, Any]:
    """The bill in a version of the specification, 1.5 or 1.6. It is dated by the image's newest package."""
    lock, build = materials.lock, materials.build_id
    image = {"type": "operating-system", "bom-ref": "image", "name": lock.image, "version": build,
             "hashes": [], "description": lock.description, "properties": _properties(
                 [("lock-sha256", materials.lock_sha256), ("distribution", materials.distribution)])}
    release = {"type": "operating-system", "bom-ref": "distribution", "name": lock.base.distribution,
               "version": materials.distribution.partition("-")[2]}
    refs = [part.ref for part in materials.parts]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json", "bomFormat": "CycloneDX",
        "specVersion": version, "version": 1,
        "serialNumber": f"urn:uuid:{serial(materials)}",
        "metadata": {
            "timestamp": clock.stamp(datetime.datetime.fromtimestamp(lock.source_date_epoch, datetime.UTC)),
            "tools": {"components": [{"type": "application", "name": "goldenami"}]},
            "component": {key: value for key, value in image.items() if value}},
        "components": [release, *map(_component, materials.parts)],
        "dependencies": [{"ref": "image", "dependsOn": ["distribution", *refs]}, *(
            {"ref": part.ref, "dependsOn": list(part.depends)} for part in materials.parts if part.depends)],
        "compositions": [{"aggregate": "complete" if materials.whole else "unknown", "assemblies": ["image"]}],
    }


def _component(part: ImagePart) -> dict[str, Any]:
    source = [("source", part.source.name), ("source-version", part.source.version)] if part.source else []
    found = {
        "type": "library", "bom-ref": part.ref, "name": part.name, "version": part.version, "purl": part.purl,
        "cpe": part.cpe, "publisher": part.vendor,
        "supplier": {"name": part.supplier} if part.supplier else {},
        "licenses": [{"expression": part.licence}] if part.licence else [],
        "hashes": [{"alg": "SHA-256", "content": part.sha256}] if part.sha256 else [],
        "properties": _properties([*part.properties, *source]),
        "pedigree": {"ancestors": list(map(_component, part.ancestors))} if part.ancestors else {},
    }
    return {key: value for key, value in found.items() if value}


def _properties(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": f"goldenami:{name}", "value": value} for name, value in pairs]
