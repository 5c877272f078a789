"""Releases that goldenami knows how to resolve and boot, as Ansible and roles name them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from goldenami.model.supported import instruction_sets


class Distribution(StrEnum):
    """Distributions that goldenami knows how to resolve and boot."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


@dataclass(frozen=True)
class Platform:
    """The distribution as Ansible names it, `Debian`, 12, and the version of its own GCC."""

    distribution: str
    major: int
    gcc: instruction_sets.GccVersion

    @property
    def vars_file(self) -> str:
        """The file name that roles use for this platform."""
        return f"{self.distribution}_{self.major}.yml"


PLATFORMS = {
    "bookworm": Platform("Debian", 12, (12, 2)), "trixie": Platform("Debian", 13, (14, 2)),
    "jammy": Platform("Ubuntu", 22, (11, 4)), "noble": Platform("Ubuntu", 24, (13, 3)),
}
"""Releases by codename; what their package `gcc` depends on (read 2026-11)."""

DEBIAN_CODENAMES = {12: "bookworm", 13: "trixie"}
"""Also of the machines that bake: an image has their boot loader."""
