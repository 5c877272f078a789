"""Releases of distributions by codename. A new release is one row, from which all other modules
take its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from goldenami.model.supported.architectures import GccVersion


class Distribution(StrEnum):
    """Distributions that goldenami can resolve and boot."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


@dataclass(frozen=True)
class Platform:
    """A release: its distribution as Ansible names it (`Debian`), its version by os-release(5)
    ("24.04"), and the version of its own GCC.

    Its security team fixes it until `regular`; the longest free support ends on `last`. `images` is
    false if no images are made of it any more: it is the release of machines that bake, or of
    images that were published before.
    """

    distribution: str
    version: str
    gcc: GccVersion
    regular: date
    last: date
    images: bool

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def id(self) -> str:
        return f"{self.distribution.lower()}-{self.version}"

    @property
    def vars_file(self) -> str:
        return f"{self.distribution}_{self.major}.yml"


RELEASES: Mapping[str, Platform] = {
    "bookworm": Platform(
        "Debian", "12", (12, 2), date(2026, 7, 11), date(2028, 6, 30), images=False
    ),
    "trixie": Platform("Debian", "13", (14, 2), date(2028, 8, 9), date(2030, 6, 30), images=True),
    "jammy": Platform("Ubuntu", "22.04", (11, 4), date(2027, 6, 1), date(2027, 6, 1), images=False),
    "noble": Platform(
        "Ubuntu", "24.04", (13, 3), date(2029, 5, 31), date(2029, 5, 31), images=True
    ),
}
RELEASES_SOURCE = (
    "distro-info-data 0.66+deb13u2: eol and eol-lts of Debian, eol of Ubuntu; read 2026-11"
)
"""Source of the dates. The version of GCC is the one on which the release's package `gcc` depends
(read 2026-11)."""

PLATFORMS = {codename: release for codename, release in RELEASES.items() if release.images}
"""Releases of which images are made."""
