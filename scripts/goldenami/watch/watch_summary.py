"""The results of a run of `watch`: a table for a terminal, and Markdown for a pull request."""

from __future__ import annotations

import re

from goldenami.core.markdown import cell, rows
from goldenami.core.terminal import columns
from goldenami.core.units import growth
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.watch.watch_records import ComponentRow, LockChange, WatchRecord

BODY_LIMIT = 60_000
"""Characters of a summary: GitHub takes 65,536 for the body of a pull request, and the pipeline
adds to it."""

_HEADS = ("image", "component", "locked", "available", "policy", "verdict")


def table(record: WatchRecord) -> str:
    """Return a table with aligned columns: one line for each component, and its reason, if any, on
    the next line."""
    head, *body = columns.aligned([_HEADS, *map(_cells, record.rows)])
    lines = [head]
    for row, line in zip(record.rows, body, strict=True):
        lines.append(line)
        if row.reason:
            lines.append(f"  {row.reason}")
    return "\n".join(lines)


def is_news(record: WatchRecord) -> bool:
    """Whether a notice should be sent."""
    if record.errors or record.warnings or record.changes:
        return True
    quiet = (UpdateVerdict.CURRENT, UpdateVerdict.HELD)
    return any(row.verdict not in quiet for row in record.rows)


def headline(record: WatchRecord) -> str:
    """One line: what moved, and what could not be read."""
    locked, mended = list[str](), set[str]()
    for change in record.changes:
        locked.append(change.image)
        mended |= _mended(record, change.image)
    waiting = _images(record, UpdateVerdict.UPDATE, UpdateVerdict.FAILED)
    failed = _images(record, UpdateVerdict.FAILED)
    blocked = list[str]()
    for row in record.rows:
        if row.verdict is UpdateVerdict.BLOCKED:
            blocked.append(f"{row.component} {row.available} of {row.image}")
    unread_sources = {source.name for source in record.sources if source.error}
    parts = ["nothing newer that matters"]
    if locked:
        parts = [f"new lock of {', '.join(locked)}"]
    elif waiting:
        parts = [f"newer for {', '.join(waiting)}"]
    if len(mended) == 1:
        parts.append(f"mends {min(mended)}")
    elif mended:
        parts.append(f"mends {len(mended)} known vulnerabilities")
    for label, names in (
        ("no new lock of", failed),
        ("blocked:", blocked),
        ("could not look at", sorted(unread_sources)),
    ):
        if names:
            parts.append(f"{label} {', '.join(names)}")
    return "; ".join(parts)


def _images(record: WatchRecord, *verdicts: UpdateVerdict) -> list[str]:
    return sorted({row.image for row in record.rows if row.verdict in verdicts})


def markdown(record: WatchRecord, link: str = "") -> str:
    """Return the summary, at most `BODY_LIMIT` characters.

    `link` is the address of the pipeline's run, which has the reports of the bakes.
    """
    lines = [f"# {cell(headline(record))}", ""]
    if link and record.changes:
        lines += [f"Reports of the bakes: {link}", ""]
    for error in record.errors:
        lines.append(f"* **could not look**: {cell(error)}")
    for warning in record.warnings:
        lines.append(f"* **warning**: {cell(warning)}")
    cells = [(*_cells(row), row.reason) for row in record.rows]
    lines += ["", *rows((*_HEADS, "why"), cells)]
    for change in record.changes:
        lines += ["", *_change(change, sorted(_mended(record, change.image)))]
    sources = [(source.name, source.changed, source.error) for source in record.sources]
    lines += ["", "## Sources", "", *rows(("source", "last changed", "error"), sources)]
    lines += ["", f"Looked at on {record.looked_at}."]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"
    if len(text) <= BODY_LIMIT:
        return text
    # A longer body would be refused, and with it the pull request.
    note = "\n\nShortened: all of it is in watch.json.\n"
    return text[: BODY_LIMIT - len(note)] + note


def _cells(row: ComponentRow) -> tuple[str, ...]:
    return (
        row.image,
        row.component,
        row.locked,
        row.available,
        row.policy,
        row.verdict.value,
    )


def _mended(record: WatchRecord, image: str) -> set[str]:
    """The known vulnerabilities that a new lock of the image mends."""
    mended = set[str]()
    for row in record.rows:
        if row.image == image and row.verdict is UpdateVerdict.UPDATE:
            mended.update(row.mends)
    return mended


def _change(change: LockChange, mended: list[str]) -> list[str]:
    lines = [f"## {cell(change.image)}: build {change.build_before} to {change.build_after}", ""]
    for name, pair in (("Kernel", change.kernel), ("Driver", change.driver)):
        if pair:
            lines.append(f"* {name}: {cell(pair[0] or 'none')} to **{cell(pair[1] or 'none')}**")
    if mended:
        lines.append(
            f"* Mends what is known against build {change.build_before}: {', '.join(mended)}"
        )
    lines += [f"* Installed: {growth(change.installed_bytes)}", ""]
    moves = [(move.name, move.before, move.after) for move in change.packages]
    return [*lines, *rows(("package", "before", "after"), moves)]
