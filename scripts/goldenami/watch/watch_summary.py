"""What a run of `watch` found, as a table for a terminal and as Markdown for a pull request.
Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from goldenami.core.markdown import cell
from goldenami.core.terminal import columns
from goldenami.core.units import growth
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.watch.watch_records import ComponentRow, LockChange, SourcePackageChange, WatchRecord

BODY_LIMIT = 60_000
"""Characters of a summary: GitHub takes 65,536 of a pull request's body, and the pipeline adds to
it."""
LOG_LINES = 40
"""Lines of one source package's changelog; all of it is in the record."""

_HEADS = ("image", "component", "locked", "available", "policy", "verdict")


def table(record: WatchRecord) -> str:
    """Columns of fixed width: one line a component, with the reason below where there is one."""
    rows = [(row.image, row.component, row.locked, row.available, row.policy, row.verdict.value)
            for row in record.rows]
    head, *cells = columns.aligned([_HEADS, *rows])
    lines = [head]
    for row, line in zip(record.rows, cells, strict=True):
        lines += [line, *([f"  {row.reason}"] if row.reason else [])]
    return "\n".join(lines)


def is_news(record: WatchRecord) -> bool:
    """Whether somebody should be told."""
    return bool(record.errors or record.warnings or record.changes or any(
        row.verdict not in (UpdateVerdict.CURRENT, UpdateVerdict.HELD) for row in record.rows))


def headline(record: WatchRecord) -> str:
    """One line: what moved, what could not be looked at."""
    parts = []
    if record.changes:
        parts.append("new lock of " + ", ".join(change.image for change in record.changes))
        mended = {name for change in record.changes for name in _mended(record, change.image)}
        parts += [f"mends {len(mended)} known vulnerabilities" if len(mended) > 1
                  else f"mends {min(mended)}"] \
            if mended else []
    else:
        waiting = sorted({row.image for row in record.rows if row.verdict
                          in (UpdateVerdict.UPDATE, UpdateVerdict.FAILED)})
        parts.append(f"newer for {', '.join(waiting)}" if waiting else "nothing newer that matters")
    failed = sorted({row.image for row in record.rows if row.verdict is UpdateVerdict.FAILED})
    parts += [f"no new lock of {', '.join(failed)}"] if failed else []
    blocked = [f"{row.component} {row.available} of {row.image}" for row in record.rows
               if row.verdict is UpdateVerdict.BLOCKED]
    parts += [f"blocked: {', '.join(blocked)}"] if blocked else []
    parts += [f"could not look at {', '.join(sorted({s.name for s in record.sources if s.error}))}"] \
        if record.errors else []
    return "; ".join(parts)


def markdown(record: WatchRecord, link: str = "") -> str:
    """The summary, in at most `BODY_LIMIT` characters. Text of others stands in code blocks: it
    addresses nobody.

    `link` is the run of the pipeline, which has the reports of the bakes.
    """
    text = "\n\n".join([
        f"# {cell(headline(record))}",
        f"Reports of the bakes: {link}" if link and record.changes else "",
        _warnings(record), _rows(record.rows),
        *(_change(change, _mended(record, change.image)) for change in record.changes),
        _sources(record),
    ])
    text = re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"
    if len(text) <= BODY_LIMIT:
        return text
    note = "\n```\n\nShortened: all of it is in watch.json.\n"
    return text[:BODY_LIMIT - len(note)] + note


def _warnings(record: WatchRecord) -> str:
    lines = [f"* **could not look**: {cell(error)}" for error in record.errors]
    return "\n".join([*lines, *(f"* **warning**: {cell(warning)}" for warning in record.warnings)])


def _rows(rows: Sequence[ComponentRow]) -> str:
    lines = [f"| {' | '.join(_HEADS)} |", f"|{' --- |' * len(_HEADS)}"]
    for row in rows:
        verdict = f"{row.verdict.value}: {row.reason}" if row.reason else row.verdict.value
        cells = (row.image, row.component, row.locked, row.available, row.policy, verdict)
        lines.append(f"| {' | '.join(cell(text) for text in cells)} |")
    return "\n".join(lines)


def _mended(record: WatchRecord, image: str) -> list[str]:
    """The known vulnerabilities that the new lock of an image no longer has."""
    return sorted({name for row in record.rows if row.image == image and row.verdict
                   is UpdateVerdict.UPDATE
                   for name in row.mends})


def _change(change: LockChange, mended: Sequence[str]) -> str:
    lines = [f"## {cell(change.image)}: build {change.build_before} to {change.build_after}", ""]
    for name, pair in (("Kernel", change.kernel), ("Driver", change.driver)):
        lines += (
            [f"* {name}: {cell(pair[0] or 'none')} to **{cell(pair[1] or 'none')}**"]
            if pair
            else []
        )
    lines += (
        [f"* Mends what is known against build {change.build_before}: {', '.join(mended)}"]
        if mended
        else []
    )
    advisories = sorted({name for moved in change.moved for name in moved.advisories})
    lines += [f"* Advisories named in changelogs: {', '.join(advisories)}"] if advisories else []
    lines += [f"* Added: {cell(', '.join(change.added))}"] if change.added else []
    lines += [f"* Removed: {cell(', '.join(change.removed))}"] if change.removed else []
    lines += [
        f"* Installed: {growth(change.installed_bytes)}; to download: {growth(change.download_bytes)}",
        "",
    ]
    return "\n".join([*lines, *(_moved(moved) for moved in change.moved)])


def _moved(moved: SourcePackageChange) -> str:
    head = f"### {cell(moved.source)}: {cell(moved.before)} to {cell(moved.after)}\n\n{cell(', '.join(moved.packages))}"
    if not moved.entries:
        return f"{head}\n\nNo changelog in the package.\n"
    lines = [line for entry in moved.entries
             for line in (f"{entry.version}  {entry.date}", *entry.text.splitlines())]
    more = [f"... and {len(lines) - LOG_LINES} more lines"] if len(lines) > LOG_LINES else []
    text = "\n".join(lines[:LOG_LINES] + more)
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=2) + 1)
    fence = fence if len(fence) >= 3 else "```"
    return f"{head}\n\n{fence}text\n{text}\n{fence}\n"


def _sources(record: WatchRecord) -> str:
    lines = ["## Sources", "", "| source | last changed | |", "| --- | --- | --- |"]
    lines += [f"| {cell(source.name)} | {source.changed} | {cell(source.error) or 'read'} |"
              for source in record.sources]
    return "\n".join([*lines, "", f"Looked at on {record.looked_at}."])
