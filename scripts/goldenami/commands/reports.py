"""The page of a build, written by each command after which it says more."""

from __future__ import annotations

from pathlib import Path

from goldenami.model.build_folder import BuildFolder
from goldenami.model.lockfile import Lock
from goldenami.report import report
from goldenami.verify import verify


def written(build: BuildFolder, lock: Lock) -> Path:
    """Write page and summary of a build, beside the one before it; returns the page's path."""
    return report.write_report(build, verify.previous(build), lock.model_dump(mode="json"))
