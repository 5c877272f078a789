"""Bills of materials of a build: `sbom.cdx.json` and `sbom.spdx.json` beside its records.

They come from the lock alone, held equal to the tree's manifest, so one build has one bill, to the
byte.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from goldenami.core import records
from goldenami.image.security import components, cyclonedx, spdx
from goldenami.image.security.components import Materials
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.lockfile import Lock
from goldenami.packages.store import Store


class Spec(StrEnum):
    """What a bill is written in."""

    CYCLONEDX_1_6 = "cyclonedx-1.6"
    SPDX_2_3 = "spdx-2.3"


KEPT = {Spec.CYCLONEDX_1_6: "sbom.cdx.json", Spec.SPDX_2_3: "sbom.spdx.json"}
"""The bills that each build has."""


def text(materials: Materials, spec: Spec) -> str:
    """A bill of the build, as canonical JSON."""
    if spec is Spec.SPDX_2_3:
        return records.canonical(spdx.document(materials))
    return records.canonical(cyclonedx.document(materials, spec.value.partition("-")[2]))


def write_missing(build: BuildFolder, lock: Lock, store: Store) -> None:
    """Write the bills of a build that has none. Those that are there may be signed: they stay."""
    if not all((build.path / name).exists() for name in KEPT.values()):
        write(build, lock, store)


def write(build: BuildFolder, lock: Lock, store: Store) -> list[Path]:
    """Write the bills of a build beside its records; returns their paths."""
    materials = components.of_build(build, lock, store)
    for spec, name in KEPT.items():
        records.write_text(build.path / name, text(materials, spec))
    return [build.path / name for name in KEPT.values()]
