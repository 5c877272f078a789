"""What a lock says of Python packages beside the frameworks."""

from __future__ import annotations

from goldenami.core.records import Record
from goldenami.model.roles.recipes import Allowance
from goldenami.packages.pypi import PyFile, PythonIndex


class PythonPackages(Record):
    """Packages beside the frameworks, in their environment or one of their own: by project what the
    definition asks for, and all wheels that come with it but the frameworks' own.

    `index` is where those come from that the usual index is not asked for. `allow` is what the
    coverage check grants them.
    """

    environment: str
    asked: dict[str, str]
    wheels: list[PyFile]
    index: PythonIndex | None
    allow: list[Allowance]

    def is_private(self, project: str) -> bool:
        return self.index is not None and self.index.has(project)
