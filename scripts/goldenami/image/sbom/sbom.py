"""The bill of materials of a build: `sbom.cdx.json` beside its records.

It comes from the lock alone, checked against the tree's manifest. So one build has one bill, to
the byte.
"""

from __future__ import annotations

from goldenami.core import records
from goldenami.image.sbom import components, cyclonedx
from goldenami.image.sbom.components import Materials
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.locked.lockfile import Lock
from goldenami.packages.store import Store

SBOM_FILE = "sbom.cdx.json"


def text(materials: Materials) -> str:
    """The bill as canonical JSON."""
    return records.canonical(cyclonedx.document(materials))


def write_missing(build: BuildFolder, lock: Lock, store: Store) -> None:
    """Write the bill of a build, unless it has one."""
    # A bill that is there may be signed: it is not written again.
    if not (build.path / SBOM_FILE).exists():
        materials = components.of_build(build, lock, store)
        records.write_text(build.path / SBOM_FILE, text(materials))
