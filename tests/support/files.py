"""Trees of small files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write each text to its path below `root`, with the folders above it; returns `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def write_programs(root: Path, files: Mapping[str, str]) -> Path:
    """The same for programs."""
    for name in files:
        (write(root, {name: files[name]}) / name).chmod(0o755)
    return root
