"""Text within Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


def cell(text: str) -> str:
    """`text` of a stranger: no markup, no mention, no end of the cell."""
    return re.sub(r"([\\`*_\[\]<>|#@~!])", r"\\\1", " ".join(text.split()))


def rows(heads: Sequence[str], cells: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, line by line."""
    for line in (heads, ["---"] * len(heads), *([cell(text) for text in row] for row in cells)):
        yield f"| {' | '.join(line)} |"
