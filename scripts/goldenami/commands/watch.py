"""Commands that look for releases, take them into new locks and propose those."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from goldenami import (
    clock,
    definition,
    lock,
    lockfile,
    notice,
    proposal,
    records,
    release_notes,
    shell,
    store,
    watch,
    watch_summary,
    workplace,
)
from goldenami.aws import base_images, notify
from goldenami.aws.base_images import BaseImage
from goldenami.aws.session import Account
from goldenami.commands import ROOT, Add
from goldenami.commands.stores import open_store
from goldenami.errors import BadInput, ExitCode, GoldenError, NoFit, Unreachable
from goldenami.progress import Progress
from goldenami.sources.driver import Prover
from goldenami.sources.packages import Component
from goldenami.watch import Eyes, Image, Seen
from goldenami.watch_policy import Verdict
from goldenami.watch_records import RECORD_FILE, SUMMARY_FILE, Change, Row, WatchRecord


def cmd_watch(args: argparse.Namespace) -> int:
    """Ask the sources of each image (or of one) for what is newer than its lock and matters; --update locks it."""
    cache = store.default_root()
    progress = Progress.of("watch", args.image or "all", cache)
    kept = open_store()
    images, missing = _images(args.image)
    account = Account()

    def newest(region: str, owner: str, pattern: str) -> BaseImage:
        return base_images.newest(account.ec2(region), owner, pattern)

    folder = ROOT / "build/watch"
    prover = Prover(ROOT, kept, folder / "watch.log", progress.say)
    with progress.step("sources", f"{len(images)} images"):
        record, seen = watch.look(Eyes(ROOT, cache, clock.now().date(), newest, prover), images, clock.stamp())
    record = record.model_copy(update={"warnings": [*record.warnings, *missing]})
    if args.update:
        record = _update(record, seen, prover, kept, wait=args.wait)
    records.write(folder / RECORD_FILE, record)
    records.write_text(folder / SUMMARY_FILE, _summary(record))
    _show(record)
    progress.say(f"summary: {folder / SUMMARY_FILE}")
    _notify(record, account)
    return _end(record, strict=args.strict, update=args.update)


def _images(name: str | None) -> tuple[list[Image], list[str]]:
    """The images with their locks, and a warning for each that has none (an error for the one that was named)."""
    paths = [definition.path_of(ROOT, name)] if name else sorted((ROOT / "packer/images").glob("*.yml"))
    images, missing = list[Image](), list[str]()
    for path in paths:
        wanted, where = definition.load(ROOT, path), lockfile.path_of(ROOT, path.stem)
        if name or where.exists():
            images.append(Image(wanted, *lockfile.read(where)))
        else:
            missing.append(f"{wanted.image}: no lock, so nothing to compare with: make lock IMAGE={wanted.image}")
    return images, missing


def _update(record: WatchRecord, seen: Sequence[Seen], prover: Prover, kept: store.Store, *, wait: bool) -> WatchRecord:
    """Make the locks that the rows ask for; a candidate that turns out not to fit is `blocked` in its row."""
    rows, changes = list[Row](), list[Change]()
    for one in seen:
        proved = _proved(one, prover)
        if proved.moves:
            with workplace.image_lock(ROOT, proved.image.lock.image, wait=wait):
                proved, change = _relock(proved, kept)
            changes += [change] if change else []
        rows += proved.rows
    return record.model_copy(update={"rows": rows, "changes": changes})


def _proved(seen: Seen, prover: Prover) -> Seen:
    """Its driver row after the driver was compiled on the locked kernel."""
    rows = list[Row]()
    for row in seen.rows:
        if row.component == Component.DRIVER and row.verdict is Verdict.UPDATE:
            reason = prover.refusal(seen.image.definition, seen.image.lock, seen.archives.apt, row.available,
                                    compiles=True)
            rows.append(_blocked(row, reason) if reason else row)
        else:
            rows.append(row)
    return replace(seen, rows=tuple(rows))


def _relock(seen: Seen, kept: store.Store) -> tuple[Seen, Change | None]:
    """A new lock of one image. Where there is no fit, the old lock stays and the rows say why."""
    image, old = seen.image.definition, seen.image
    path, where = definition.path_of(ROOT, image.image), lockfile.path_of(ROOT, image.image)
    text = path.read_text(encoding="utf-8")
    progress = Progress.of("lock", image.image, store.default_root())
    log = ROOT / "build" / image.image / "logs/lock.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        wanted = _follow_branch(seen, path, text)
        found, digest = lock.run(ROOT, wanted, kept, progress, log, keep=watch.keep(seen))
    except BaseException as error:
        records.write_text(path, text)  # the branch in the definition is that of the lock
        if isinstance(error, NoFit):
            return replace(seen, rows=tuple(_blocked(row, error.message) for row in seen.rows)), None
        raise
    progress.remember()
    progress.say(f"build {digest[:lockfile.ID_LENGTH]}: {where.relative_to(ROOT)}")
    return seen, release_notes.compare(old.lock, old.sha256, found, digest, kept)


def _follow_branch(seen: Seen, path: Path, text: str) -> definition.Definition:
    """The definition, with the driver branch that its policy moves to written into it, if it names one."""
    row = next((row for row in seen.rows if row.component == Component.DRIVER), None)
    if row is None or row.verdict is not Verdict.UPDATE:
        return seen.image.definition
    branch = row.available.partition(".")[0]
    if seen.image.definition.variables("nvidia_driver").get("nvidia_driver_branch") not in (branch, definition.NEWEST):
        records.write_text(path, definition.with_branch(path, text, branch))
    return definition.load(ROOT, path)


def _blocked(row: Row, reason: str) -> Row:
    if row.verdict is not Verdict.UPDATE:
        return row
    return row.model_copy(update={"verdict": Verdict.BLOCKED, "reason": reason})


def _summary(record: WatchRecord) -> str:
    return watch_summary.markdown(record, os.environ.get("GOLDEN_RUN_URL", ""))


def _show(record: WatchRecord) -> None:
    print(watch_summary.table(record))
    for warning in record.warnings:
        print(f"warning: {warning}")
    for error in record.errors:
        print(f"could not look: {error}")
    print(watch_summary.headline(record))


def _notify(record: WatchRecord, account: Account) -> None:
    """Tell the topic and the webhook that the environment names, unless there is nothing to tell."""
    quiet = not record.errors and not record.warnings and not record.changes and all(
        row.verdict in (Verdict.CURRENT, Verdict.HELD) for row in record.rows)
    if quiet:
        return
    headline, body = watch_summary.headline(record), _summary(record)
    if topic := os.environ.get(notice.TOPIC):
        region = notice.region(topic)
        if not region:
            raise BadInput(f"{notice.TOPIC} is no ARN of an SNS topic", hint="arn:aws:sns:REGION:ACCOUNT:NAME")
        notify.publish(account.client("sns", region), topic, f"golden images: {headline}", body)
    if url := os.environ.get(notice.WEBHOOK):
        notice.to_webhook(url, headline, body)


def _end(record: WatchRecord, *, strict: bool, update: bool) -> int:
    """The exit code; what could not be looked at outranks what was found."""
    if record.errors:
        raise _error(record.errors)
    if strict and record.warnings:
        raise BadInput(f"{len(record.warnings)} warnings, the first: {record.warnings[0]}",
                       hint="review the hold, or move to another branch; without --strict they are only printed")
    waits = any(row.verdict is Verdict.UPDATE for row in record.rows)
    return int(ExitCode.NEWER) if waits and not update else int(ExitCode.OK)


def _error(errors: Sequence[str]) -> GoldenError:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Unreachable(f"could not look at every source: {errors[0]}{more}",
                       hint="the table shows what the others have; check that source, then run again")


def cmd_images(args: argparse.Namespace) -> int:
    """Print the images that have a lock as JSON; --changed REF: only those whose lock differs from that commit's.

    Where GITHUB_OUTPUT names a file, `images=` goes there too, for the matrix of a later job.
    """
    locked = sorted(path.name.removesuffix(".lock.json") for path in (ROOT / "packer/locks").glob("*.lock.json"))
    if args.changed:
        text = shell.output(["git", "diff", "--name-only", args.changed, "--", "packer/locks"], cwd=ROOT)
        text += shell.output(["git", "ls-files", "--others", "--exclude-standard", "--", "packer/locks"], cwd=ROOT)
        locked = [name for name in locked if f"packer/locks/{name}.lock.json" in text.splitlines()]
    names = json.dumps(locked)
    print(names)
    if output := os.environ.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as sink:
            sink.write(f"images={names}\n")
    return 0


def cmd_propose(args: argparse.Namespace) -> int:
    """Push new locks as the branch golden/watch, so that GitLab opens a merge request; --dry-run only shows it."""
    folder = ROOT / "build/watch"
    record = records.read(folder / RECORD_FILE, WatchRecord)
    summary = (folder / SUMMARY_FILE).read_text(encoding="utf-8")
    target = os.environ.get("CI_DEFAULT_BRANCH", "main")
    wanted = proposal.plan(ROOT, target=target, title=watch_summary.headline(record), summary=summary)
    if wanted is None:
        print("no new lock: nothing to propose")
        return 0
    print(records.canonical(wanted.model_dump(mode="json")), end="")
    if not args.dry_run:
        proposal.push(ROOT, wanted, os.environ.get(proposal.URL, ""))
    return 0


def register(add: Add) -> None:
    """Add the commands of this module to the command line."""
    add("images", cmd_images).add_argument("--changed", metavar="REF", help="only images whose lock differs from REF's")
    add("propose", cmd_propose).add_argument("--dry-run", action="store_true", help="show what would be pushed")
    command = add("watch", cmd_watch, "?")
    command.add_argument("--update", action="store_true", help="make new locks of what matters")
    command.add_argument("--strict", action="store_true", help="warnings count as errors")
    command.add_argument("--wait", action="store_true", help="wait for another run on the same image")
