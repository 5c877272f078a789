"""Bills of materials of a build: `sbom.cdx.json` and `sbom.spdx.json` beside its records.

They come from the lock alone, checked against the tree's manifest. So one build has one bill, to
the byte.
"""

from __future__ import annotations

from goldenami.core import records
from goldenami.image.sbom import components, cyclonedx, spdx
from goldenami.image.sbom.components import Materials
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.locked.lockfile import Lock
from goldenami.packages.store import Store

CYCLONEDX, SPDX = "sbom.cdx.json", "sbom.spdx.json"
_DOCUMENTS = {CYCLONEDX: cyclonedx.document, SPDX: spdx.document}


def text(materials: Materials, name: str) -> str:
    """The bill with the file name `name`, as canonical JSON."""
    return records.canonical(_DOCUMENTS[name](materials))


def write_missing(build: BuildFolder, lock: Lock, store: Store) -> None:
    """Write the bills of a build, unless it has both."""
    # Bills that are there may be signed: they are not written again.
    if not all((build.path / name).exists() for name in _DOCUMENTS):
        materials = components.of_build(build, lock, store)
        for name in _DOCUMENTS:
            records.write_text(build.path / name, text(materials, name))
