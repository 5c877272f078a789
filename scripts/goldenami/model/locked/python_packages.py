"""A lock's record of Python packages beside the frameworks."""

from __future__ import annotations

from goldenami.core.records import Record
from goldenami.model.roles.recipes import Allowance
from goldenami.packages.pypi import PyFile, PythonIndex


class PythonPackages(Record):
    """Packages beside the frameworks, in the frameworks' environment or one of their own. `asked`
    has the definition's requests by project, `wheels` all wheels but those of the frameworks.

    `index` is a company's index, from which some of them come. `allow` are their exceptions for the
    coverage check.
    """

    environment: str
    asked: dict[str, str]
    wheels: list[PyFile]
    index: PythonIndex | None
    allow: list[Allowance]

    def is_private(self, project: str) -> bool:
        return self.index is not None and self.index.has(project)
