"""Commands that look for releases, take them into new locks and propose those."""

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
"""Where record, summary and log of `watch` are."""


@dataclass(frozen=True, kw_only=True)
class WatchAsked:
    """What was asked of `golden watch`."""

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


def cmd_watch(checkout: Checkout, asked: WatchAsked) -> int:
    """Ask the sources of each image for what is newer than its lock and matters; --update locks
    it."""
    if asked.propose:
        return _propose(checkout)
    notify.check()
    progress, folder = checkout.progress("watch", asked.image or "all"), checkout.root / FOLDER
    images, warnings, errors = watch.watched(checkout.root, asked.image)
    with progress.step("sources", f"{len(images)} images"):
        record, results = watch.look(checkout.root, checkout.cache, images, clock.stamp())
    unread = [SourceStatus(name=name, error=error.message) for name, error in errors.items()]
    record = record.model_copy(
        update={"warnings": [*record.warnings, *warnings], "sources": [*record.sources, *unread]}
    )
    failures = list(errors.values())
    if asked.update:
        record, failed = Relock(checkout.root, partial(make_lock, checkout), asked.wait).run(
            record, results
        )
        failures += failed
    records.write(folder / RECORD_FILE, record)
    summary = watch_summary.markdown(record, run_url())
    records.write_text(folder / SUMMARY_FILE, summary)
    print_record(record, _shown(record), asked.as_json)
    progress.say(f"summary: {folder / SUMMARY_FILE}")
    failures += _unseen(record)
    if watch_summary.is_news(record):
        failures += notify.tell(checkout.account(), watch_summary.headline(record), summary)
    return _end(record, failures, strict=asked.strict, update=asked.update)


def _shown(record: WatchRecord) -> Iterator[str]:
    yield watch_summary.table(record)
    yield from (f"warning: {warning}" for warning in record.warnings)
    yield from (f"could not look: {error}" for error in record.errors)
    yield watch_summary.headline(record)


def _end(
    record: WatchRecord, failures: Sequence[GoldenError], *, strict: bool, update: bool
) -> int:
    if failures:
        for other in failures[1:]:
            print(f"also: {other.message}", file=sys.stderr)
        raise failures[0]
    if strict and record.warnings:
        raise BadInput(
            f"{len(record.warnings)} warnings, the first: {record.warnings[0]}",
            hint="review the hold, or move to another branch; without --strict they "
            "are only printed",
        )
    waits = any(row.verdict is UpdateVerdict.UPDATE for row in record.rows)
    return int(ExitCode.NEWER) if waits and not update else int(ExitCode.OK)


def _unseen(record: WatchRecord) -> list[GoldenError]:
    errors = record.errors
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return (
        [
            Unreachable(
                f"could not look at every source: {errors[0]}{more}",
                hint="the table shows what the others have; check that source, then run again",
            )
        ]
        if errors
        else []
    )


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
