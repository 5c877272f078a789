"""The hardware of a definition, as a lock has it."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import hardware
from goldenami.model.supported.platforms import PLATFORMS


class HardwareLock(Record):
    """The declared families and what follows from them.

    `options` make `gcc` compile for the best that all `cpus` share, `features` are all of it, by
    the names of architectures.py. `sm` are the CUDA compute capabilities that GPU code has to
    cover.
    """

    families: list[str]
    cpus: list[str]
    gcc: str
    march: str
    options: list[str]
    features: list[str]
    sm: list[str]


def derive(root: Path, definition: Definition) -> HardwareLock:
    """What the definition's families ask of code for CPUs and GPUs."""
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
    """Of the families' rows and what follows from them; another family's row does not count."""
    known = hardware.load(root)
    rows: dict[str, object] = {name: known[name].substance() for name in definition.hardware}
    if "golden_health" in definition.roles:
        rows["machines"] = hardware.machines(root, definition.hardware)
    derived = derive(root, definition).model_dump(mode="json")
    return records.sha256_text(records.canonical({"rows": rows, "derived": derived}))
