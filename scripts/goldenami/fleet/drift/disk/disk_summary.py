"""A compared disk for people: lines for a terminal and for a message. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from goldenami.fleet.drift.disk.disk_records import DiskRecord, DiskVerdict

SHOWN = 50
"""Differences that are shown; all of them are in the record."""


def headline(record: DiskRecord) -> str:
    """One line: what the disk is, and the machine where it was asked."""
    of = f"{record.disk} against build {record.build_id} of {record.image}"
    inside = "" if record.running is None else ", and so it runs"
    if record.verdict is DiskVerdict.AS_BAKED:
        return (
            f"{of}: as baked ({record.paths} paths, {record.expected} changed as they may){inside}"
        )
    inside = (
        ""
        if record.running is None
        else f"; {len(record.running)} things run that are not declared"
    )
    return f"{of}: {len(record.drift)} of {record.paths} paths drifted{inside}"


def show(record: DiskRecord) -> Iterator[str]:
    """The record for a terminal."""
    for row in record.drift[:SHOWN]:
        yield f"{row.path}{f' ({row.package})' if row.package else ''}"
        yield from (f"    {line}" for line in row.what)
        yield f"    breaks: {row.rule}"
    if len(record.drift) > SHOWN:
        yield f"and {len(record.drift) - SHOWN} more: --json prints all of them"
    for found in record.running or []:
        yield f"{found.kind} {found.name}"
        yield from (f"    {found.what}", f"    breaks: {found.rule}")
    yield from (f"{row.path} differs and is allowed: {row.rule}" for row in record.passed[:SHOWN])
    yield headline(record)
