"""Whether the parts of a lock fit each other, by the rules of `lint_rules`: offline, on the lock
alone."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from goldenami.core import clock
from goldenami.core.errors import BadInput, GoldenError
from goldenami.core.records import Record
from goldenami.image.lock.lint_rules import DATED, ERRORS, WARNINGS, Families
from goldenami.model.builds import lockfile
from goldenami.model.builds.lockfile import Lock
from goldenami.model.definitions.definition import Definition
from goldenami.model.supported import hardware


class Severity(StrEnum):
    """An error stops a release; a warning does so only under `--strict`."""

    ERROR = "error"
    WARNING = "warning"


class LintFinding(Record):
    """One violation."""

    rule: str
    severity: Severity
    message: str


def check(lock: Lock, families: Families, day: str | None = None) -> list[LintFinding]:
    """All violations, errors first, on `day` (ISO 8601; without it: today)."""
    today = day or clock.now().date().isoformat()
    return [
        *(_finding(rule, Severity.ERROR, message) for rule in ERRORS
          for message in rule(lock, families)),
        *(_finding(rule, Severity.WARNING, message) for rule in WARNINGS
          for message in rule(lock, families)),
        *(_finding(rule, Severity.WARNING, message) for rule in DATED
          for message in rule(lock, today)),
    ]


def demand(lock: Lock, families: Families, refusal: type[GoldenError] = BadInput) -> None:
    """Raise `refusal` where the parts of the lock do not fit; its tail has every error with the
    name of its rule."""
    errors = [finding for finding in check(lock, families) if finding.severity is Severity.ERROR]
    if errors:
        raise refusal(f"the parts of {lock.image} do not fit: {errors[0].message}",
                      tail="\n".join(f"{finding.message} [{finding.rule}]" for finding in errors),
                      hint=f"change the definition, or run `make lock IMAGE={lock.image}` once "
                           "the archives agree")


def committed(root: Path, definition: Definition) -> tuple[Lock, str]:
    """The lock of `definition` with its SHA-256; BadInput where it is stale, edited, or its parts
    do not fit."""
    lock, digest = lockfile.read(lockfile.path_of(root, definition.image))
    lockfile.check_fresh(root, lock, definition)
    demand(lock, hardware.load(root))
    return lock, digest


def _finding(rule: Callable[..., object], severity: Severity, message: str) -> LintFinding:
    return LintFinding(rule=rule.__name__, severity=severity, message=message)
