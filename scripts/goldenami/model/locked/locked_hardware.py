"""A lock's record of the declared hardware, and how it follows from the definition."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import hardware
from goldenami.model.supported.platforms import PLATFORMS


class HardwareLock(Record):
    """The declared families and what follows from them.

    With `options`, `gcc` compiles for the newest features that all `cpus` share. `features` lists
    all shared ones by their names in architectures.py. `sm` lists the CUDA compute capabilities
    that GPU code has to cover.
    """

    families: list[str]
    cpus: list[str]
    gcc: str
    march: str
    options: list[str]
    features: list[str]
    sm: list[str]


def derive(root: Path, definition: Definition) -> HardwareLock:
    """Return the requirements of the definition's families for code on CPUs and GPUs."""
    gcc = PLATFORMS[definition.base.release].gcc
    shared = hardware.baseline(root, definition.hardware, gcc)
    return HardwareLock(
        families=definition.hardware,
        cpus=list(shared.cpus),
        gcc=f"{gcc[0]}.{gcc[1]}",
        march=shared.march,
        options=list(shared.options),
        features=list(shared.features),
        sm=hardware.architectures(root, definition.hardware),
    )


def digest(root: Path, definition: Definition) -> str:
    """Return the SHA-256 of the declared families' rows and of what follows from them. Rows of
    other families don't count, so that changing them leaves the lock fresh."""
    families = hardware.load(root)
    rows: dict[str, object] = {name: families[name].substance() for name in definition.hardware}
    # The role golden_health puts the figures of these machines into the image.
    if "golden_health" in definition.roles:
        rows["machines"] = hardware.machines(root, definition.hardware)
    derived = derive(root, definition).model_dump(mode="json")
    return records.sha256_text(records.canonical({"rows": rows, "derived": derived}))
