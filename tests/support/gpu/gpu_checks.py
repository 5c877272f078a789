"""The checks on a GPU as functions: called with facts instead of by pytest, so that a test sees
what each says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.programs import load


def module(path: Path) -> ModuleType:
    """A file of tests/image."""
    return load(path, f"checks_of_{path.parent.name}")


def complaints(checks: ModuleType, facts: Mapping[str, Any]) -> dict[str, str]:
    """What the checks that fail say; `facts` are their fixtures by name."""
    said: dict[str, str] = {}
    for name, check in vars(checks).items():
        if name.startswith("test_"):
            try:
                check(**{key: facts[key] for key in inspect.signature(check).parameters})
            except AssertionError as error:
                said[name.removeprefix("test_")] = str(error)
            except pytest.skip.Exception:
                pass
    return said
