"""packer/hardware.yml: EC2 instance families and what an image must contain to run on them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from goldenami import yamlfile
from goldenami.records import Record


class Family(Record):
    """One instance family. `sm` is the CUDA compute capability without its dot ("86"), if it has an NVIDIA GPU."""

    architecture: str
    march: str
    gpu: str | None = None
    sm: Annotated[str, Field(pattern=r"^\d{2,3}$")] | None = None
    open_modules: bool | None = None
    nvswitch: bool = False
    gsp_off: bool = False
    source: str


@cache
def load(root: Path) -> dict[str, Family]:
    """All known families by name."""
    source = yamlfile.load(root / "packer/hardware.yml")
    families: dict[str, Family] = {}
    for name, row in source.data["families"].items():
        try:
            families[name] = Family.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise source.error(("families", name, *first["loc"]), first["msg"]) from None
    return families


def architectures(root: Path, names: list[str]) -> list[str]:
    """The `sm` numbers of the families, once each, ascending."""
    known = load(root)
    return sorted({sm for name in names if (sm := known[name].sm)}, key=int)
