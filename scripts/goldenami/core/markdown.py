"""Cells and tables of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


def cell(text: str) -> str:
    """Return untrusted `text` for a table's cell: no markup, no mention and no `|` takes effect."""
    return re.sub(r"([\\`*_\[\]<>|#@~!])", r"\\\1", " ".join(text.split()))


def rows(heads: Sequence[str], cells: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table. Cells are escaped, heads are not."""
    yield _line(heads)
    yield _line(["---"] * len(heads))
    for row in cells:
        yield _line(map(cell, row))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
