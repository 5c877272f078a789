"""Commands that find new releases, make new locks of them, and propose these."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from goldenami.aws.services import notify
from goldenami.commands import AsJson, OptionalImage, Strict, Wait, print_record, run_url
from goldenami.commands.checkout import Checkout
from goldenami.commands.lock import make_lock
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, ExitCode, GoldenError, Unreachable
from goldenami.model.definitions.update_policy import UpdateVerdict
from goldenami.watch import proposal, watch, watch_summary
from goldenami.watch.relock import Relock
from goldenami.watch.sources.source_records import SourceStatus
from goldenami.watch.watch_records import RECORD_FILE, SUMMARY_FILE, WatchRecord

FOLDER = "build/watch"
"""Folder of the record, the summary and the log of `watch`."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """The arguments and options of `golden watch`."""

    image: OptionalImage = None
    as_json: AsJson = False
    strict: Strict = False
    wait: Wait = False
    update: Annotated[bool, typer.Option("--update", help="make new locks of what matters")] = False
    propose: Annotated[
        bool,
        typer.Option(
            "--propose",
            help="push the locks of the last --update as a branch, for a merge request of GitLab",
        ),
    ] = False


def cmd_watch(checkout: Checkout, options: WatchOptions) -> int:
    """Ask the sources of each image for what is newer than its lock and matters; --update locks
    it."""
    if options.propose:
        return _propose(checkout)
    # A wrong address for notices is refused now, not after minutes of reading.
    notify.check()
    progress, folder = checkout.progress("watch", options.image or "all"), checkout.root / FOLDER
    images, warnings, errors = watch.watched(checkout.root, options.image)
    with progress.step("sources", f"{len(images)} images"):
        record, results = watch.read_sources(checkout.root, checkout.cache, images, clock.stamp())
    unreadable_images = [
        SourceStatus(name=name, error=error.message) for name, error in errors.items()
    ]
    record = record.model_copy(
        update={
            "warnings": [*record.warnings, *warnings],
            "sources": [*record.sources, *unreadable_images],
        }
    )
    failures = list(errors.values())
    if options.update:
        record, failed = Relock(checkout.root, partial(make_lock, checkout), options.wait).run(
            record, results
        )
        failures += failed
    records.write(folder / RECORD_FILE, record)
    summary = watch_summary.markdown(record, run_url())
    records.write_text(folder / SUMMARY_FILE, summary)
    print_record(record, _lines(record), options.as_json)
    progress.say(f"summary: {folder / SUMMARY_FILE}")
    failures += _unread_source_errors(record)
    if watch_summary.is_news(record):
        failures += notify.tell(checkout.account(), watch_summary.headline(record), summary)
    return _exit_code(record, failures, strict=options.strict, update=options.update)


def _lines(record: WatchRecord) -> Iterator[str]:
    yield watch_summary.table(record)
    yield from (f"warning: {warning}" for warning in record.warnings)
    yield from (f"could not look: {error}" for error in record.errors)
    yield watch_summary.headline(record)


def _exit_code(
    record: WatchRecord, failures: Sequence[GoldenError], *, strict: bool, update: bool
) -> int:
    if failures:
        # Only one error can be raised; the others must not be lost.
        for further in failures[1:]:
            print(f"also: {further.message}", file=sys.stderr)
        raise failures[0]
    if strict and record.warnings:
        raise BadInput(
            f"{len(record.warnings)} warnings, the first: {record.warnings[0]}",
            hint="review the hold, or move to another branch; without --strict they "
            "are only printed",
        )
    is_update_left = any(row.verdict is UpdateVerdict.UPDATE for row in record.rows)
    if is_update_left and not update:
        return ExitCode.NEWER
    return ExitCode.OK


def _unread_source_errors(record: WatchRecord) -> list[GoldenError]:
    if not record.errors:
        return []
    first, *further = record.errors
    text = f"could not look at every source: {first}"
    if further:
        text += f" (and {len(further)} more)"
    hint = "the table shows what the others have; check that source, then run again"
    return [Unreachable(text, hint=hint)]


def cmd_images(
    checkout: Checkout,
    *,
    changed: Annotated[
        str | None,
        typer.Option("--changed", metavar="REF", help="only images whose lock differs from REF's"),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="only images that are published somewhere")
    ] = False,
) -> int:
    """Print the images that have a lock as JSON, all or some.

    Where GITHUB_OUTPUT names a file, `images=` goes there too, for the matrix of a later job.
    """
    locked = checkout.locked
    if changed:
        differing = proposal.changed(checkout.root, changed)
        locked = [name for name in locked if name in differing]
    if published:
        locked = [name for name in locked if checkout.definition(name).publish]
    names = json.dumps(locked)
    print(names)
    if output := os.environ.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as sink:
            sink.write(f"images={names}\n")
    return 0


def _propose(checkout: Checkout) -> int:
    folder = checkout.root / FOLDER
    record = records.read(folder / RECORD_FILE, WatchRecord)
    summary = (folder / SUMMARY_FILE).read_text(encoding="utf-8")
    target = os.environ.get("CI_DEFAULT_BRANCH", "main")
    files = proposal.files(checkout.root)
    if not files:
        print("no new lock: nothing to propose")
        return 0
    print(f"{target} <- {proposal.BRANCH}: {', '.join(files)}", flush=True)
    proposal.commit(checkout.root, files, summary)
    proposal.push(
        checkout.root,
        os.environ.get(proposal.URL, ""),
        target=target,
        title=watch_summary.headline(record),
    )
    return 0
