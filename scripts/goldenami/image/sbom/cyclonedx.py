"""A bill of materials as CycloneDX JSON (ECMA-424), with nothing in it that the build does not
determine."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable
from typing import Any

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from goldenami.image.sbom import components
from goldenami.image.sbom.components import ImagePart, Materials

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "goldenami")


def serial(materials: Materials) -> uuid.UUID:
    """The bill's serial number, which is the same for the same lock."""
    return uuid.uuid5(_NAMESPACE, materials.lock_sha256)


def metadata(component: Component, at: datetime.datetime) -> BomMetaData:
    """The description of a document."""
    tool = Component(type=ComponentType.APPLICATION, name="goldenami")
    # Without a timestamp the library would take the clock's.
    return BomMetaData(component=component, timestamp=at, tools=ToolRepository(components=[tool]))


def rendered(bom: Bom) -> dict[str, Any]:
    """The document as JSON of version 1.6 of the specification."""
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    return dict(json.loads(text))


def document(materials: Materials) -> dict[str, Any]:
    """The bill of `materials`, dated by the image's newest package."""
    lock, distribution = materials.lock, components.distribution(materials.lock)
    image = Component(
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="image",
        name=lock.image,
        version=materials.build_id,
        description=lock.description,
        properties=_properties(
            [("lock-sha256", materials.lock_sha256), ("distribution", distribution)]
        ),
    )
    release = Component(
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="distribution",
        name=lock.base.distribution,
        version=distribution.partition("-")[2],
    )
    parts = {part.ref: _component(part) for part in materials.parts}
    created = datetime.datetime.fromtimestamp(lock.source_date_epoch, datetime.UTC)
    bom = Bom(
        serial_number=serial(materials),
        metadata=metadata(image, created),
        components=[release, *parts.values()],
    )
    bom.register_dependency(image, [release, *parts.values()])
    for part in materials.parts:
        bom.register_dependency(parts[part.ref], [parts[ref] for ref in part.depends])
    rendered_bom = rendered(bom)
    # A row without `dependsOn` would claim that a part needs nothing, which nobody recorded.
    rendered_bom["dependencies"] = [
        row for row in rendered_bom["dependencies"] if "dependsOn" in row
    ]
    # The library cannot write compositions, which say whether the list of parts is complete.
    aggregate = "complete" if materials.whole else "unknown"
    return rendered_bom | {"compositions": [{"aggregate": aggregate, "assemblies": ["image"]}]}


def _component(part: ImagePart) -> Component:
    facts = [*part.properties]
    if part.source:
        facts += [("source", part.source.name), ("source-version", part.source.version)]
    component = Component(
        type=ComponentType.LIBRARY,
        bom_ref=part.ref,
        name=part.name,
        version=part.version,
        purl=PackageURL.from_string(part.purl),
        cpe=part.cpe or None,
        publisher=part.vendor,
        properties=_properties(facts),
    )
    if part.supplier:
        component.supplier = OrganizationalEntity(name=part.supplier)
    if part.licence:
        component.licenses.add(LicenseExpression(part.licence))
    if part.sha256:
        component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=part.sha256))
    if part.url:
        address = XsUri(part.url)
        component.external_references.add(
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=address)
        )
    if part.ancestors:
        component.pedigree = Pedigree(ancestors=map(_component, part.ancestors))
    return component


def _properties(pairs: Iterable[tuple[str, str]]) -> list[Property]:
    return [Property(name=f"goldenami:{name}", value=value) for name, value in pairs]
