"""Commands that look for releases, take them into new locks and propose those."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from goldenami.aws import base_images, notify
from goldenami.aws.base_images import BaseImage
from goldenami.aws.session import Account
from goldenami.commands import ROOT, Add
from goldenami.commands.stores import open_store
from goldenami.core import clock, records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput, ExitCode, GoldenError, NoFit, Unreachable
from goldenami.core.progress import Progress
from goldenami.local import workspace
from goldenami.lock import resolve
from goldenami.model import definition, definition_file, lockfile
from goldenami.model.update_policy import UpdateVerdict
from goldenami.packages import store
from goldenami.watch import notice, pair_proofs, proposal, release_notes, watch, watch_summary
from goldenami.watch.sources.driver import Prover
from goldenami.watch.sources.packages import WatchedComponent
from goldenami.watch.watch_records import RECORD_FILE, SUMMARY_FILE, ComponentRow, LockChange, SourceStatus, WatchRecord
from goldenami.watch.watch_results import WatchContext, WatchedImage, WatchResult


def cmd_watch(args: argparse.Namespace) -> int:
    """Ask the sources of each image (or of one) for what is newer than its lock and matters; --update locks it."""
    cache = CachePaths.default()
    progress = Progress.of("watch", args.image or "all", cache)
    kept = open_store()
    images, missing, unread = _images(args.image)
    account = Account()

    def newest(region: str, owner: str, pattern: str) -> BaseImage:
        return base_images.newest(account.ec2(region), owner, pattern)

    folder = ROOT / "build/watch"
    prover = Prover(ROOT, kept, folder / "watch.log", progress.say)
    with progress.step("sources", f"{len(images)} images"):
        record, seen = watch.look(WatchContext(ROOT, cache, clock.now().date(), newest, prover), images, clock.stamp())
    record = record.model_copy(update={"warnings": [*record.warnings, *missing],
                                       "sources": [*record.sources, *_unread(unread)]})
    failures = list(unread.values())
    if args.update:
        record, failed = _update(record, seen, prover, kept, wait=args.wait)
        failures += failed
    records.write(folder / RECORD_FILE, record)
    records.write_text(folder / SUMMARY_FILE, _summary(record))
    _show(record)
    progress.say(f"summary: {folder / SUMMARY_FILE}")
    failures += [*_blind(record), *_notify(record, account)]
    return _end(record, failures, strict=args.strict, update=args.update)


def _images(name: str | None) -> tuple[list[WatchedImage], list[str], dict[str, GoldenError]]:
    """The images with their locks, a warning for each that has none, and by name the error of each that is unreadable.

    Of the one that was named both are raised.
    """
    if name:
        wanted = definition_file.load(ROOT, definition_file.path_of(ROOT, name))
        return [WatchedImage(wanted, *lockfile.read(lockfile.path_of(ROOT, name)))], [], {}
    images, missing, unread = list[WatchedImage](), list[str](), dict[str, GoldenError]()
    for path in sorted((ROOT / "packer/images").glob("*.yml")):
        try:
            wanted, where = definition_file.load(ROOT, path), lockfile.path_of(ROOT, path.stem)
            if where.exists():
                images.append(WatchedImage(wanted, *lockfile.read(where)))
            else:
                missing.append(f"{wanted.image}: no lock, so nothing to compare with: make lock IMAGE={wanted.image}")
        except GoldenError as error:
            unread[path.stem] = error
    return images, missing, unread


def _unread(errors: Mapping[str, GoldenError]) -> list[SourceStatus]:
    return [SourceStatus(name=image, error=error.message) for image, error in errors.items()]


def _update(
    record: WatchRecord, seen: Sequence[WatchResult], prover: Prover, kept: store.Store, *, wait: bool,
) -> tuple[WatchRecord, list[GoldenError]]:
    """Make the locks that the rows ask for; what went wrong with one image is in its rows, and stops no other."""
    rows, changes, failures = list[ComponentRow](), list[LockChange](), list[GoldenError]()
    for one in seen:
        try:
            one = pair_proofs.with_proofs(one, prover, compiles=True)  # noqa: PLW2901 - the rows go on from what was proved
            if one.needs_a_lock:
                one.demand_trust()
                with workspace.image_lock(ROOT, one.image.lock.image, wait=wait):
                    changes.append(_relock(one, kept))
        except NoFit as error:
            one = one.stopped(UpdateVerdict.BLOCKED, error.message)  # noqa: PLW2901 - as above
        except GoldenError as error:
            one = one.stopped(UpdateVerdict.FAILED, error.message)  # noqa: PLW2901 - as above
            failures.append(error)
        rows += one.rows
    return record.model_copy(update={"rows": rows, "changes": changes}), failures


def _relock(seen: WatchResult, kept: store.Store) -> LockChange:
    """A new lock of one image. Where that fails, the old lock and the definition stay as they are."""
    image, old = seen.image.definition, seen.image
    path, where = definition_file.path_of(ROOT, image.image), lockfile.path_of(ROOT, image.image)
    text = path.read_text(encoding="utf-8")
    progress = Progress.of("lock", image.image, CachePaths.default())
    log = ROOT / "build" / image.image / "logs/lock.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        wanted = _follow_branch(seen, path, text)
        found, digest = resolve.run(ROOT, wanted, kept, progress, log, constraints=watch.constraints(seen))
    except BaseException:
        records.write_text(path, text)  # the branch in the definition is that of the lock
        raise
    progress.remember()
    progress.say(f"build {digest[:lockfile.ID_LENGTH]}: {where.relative_to(ROOT)}")
    if digest == old.sha256:
        raise NoFit("resolved again, the lock is the same: nothing that the image may have has moved")
    return release_notes.compare(old.lock, old.sha256, found, digest, kept)


def _follow_branch(seen: WatchResult, path: Path, text: str) -> definition.Definition:
    """The definition, with the driver branch that its policy moves to written into it, if it names one."""
    row = next((row for row in seen.rows if row.component == WatchedComponent.DRIVER), None)
    if row is None or row.verdict is not UpdateVerdict.UPDATE:
        return seen.image.definition
    branch = row.available.partition(".")[0]
    if seen.image.definition.variables("nvidia_driver").get("nvidia_driver_branch") not in (branch, definition.NEWEST):
        records.write_text(path, definition_file.with_branch(path, text, branch))
    return definition_file.load(ROOT, path)


def _summary(record: WatchRecord) -> str:
    return watch_summary.markdown(record, os.environ.get("GOLDEN_RUN_URL", ""))


def _show(record: WatchRecord) -> None:
    print(watch_summary.table(record))
    for warning in record.warnings:
        print(f"warning: {warning}")
    for error in record.errors:
        print(f"could not look: {error}")
    print(watch_summary.headline(record))


def _notify(record: WatchRecord, account: Account) -> list[GoldenError]:
    """Tell the topic and the webhook that the environment names, unless there is nothing to tell; who was not told."""
    quiet = not record.errors and not record.warnings and not record.changes and all(
        row.verdict in (UpdateVerdict.CURRENT, UpdateVerdict.HELD) for row in record.rows)
    if quiet:
        return []
    headline, body, untold = watch_summary.headline(record), _summary(record), list[GoldenError]()
    for variable, tell in ((notice.TOPIC, partial(_to_topic, account)), (notice.WEBHOOK, notice.to_webhook)):
        try:
            if target := os.environ.get(variable):
                tell(target, headline, body)
        except GoldenError as error:
            untold.append(error)
    return untold


def _to_topic(account: Account, topic: str, headline: str, body: str) -> None:
    region = notice.region(topic)
    if not region:
        raise BadInput(f"{notice.TOPIC} is no ARN of an SNS topic", hint="arn:aws:sns:REGION:ACCOUNT:NAME")
    notify.publish(account.client("sns", region), topic, f"golden images: {headline}", body)


def _end(record: WatchRecord, failures: Sequence[GoldenError], *, strict: bool, update: bool) -> int:
    """The exit code; what went wrong outranks what was found."""
    if failures:
        for other in failures[1:]:
            print(f"also: {other.message}")
        raise failures[0]
    if strict and record.warnings:
        raise BadInput(f"{len(record.warnings)} warnings, the first: {record.warnings[0]}",
                       hint="review the hold, or move to another branch; without --strict they are only printed")
    waits = any(row.verdict is UpdateVerdict.UPDATE for row in record.rows)
    return int(ExitCode.NEWER) if waits and not update else int(ExitCode.OK)


def _blind(record: WatchRecord) -> list[GoldenError]:
    """The error of all that could not be looked at, if anything."""
    errors = record.errors
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return [Unreachable(f"could not look at every source: {errors[0]}{more}",
                        hint="the table shows what the others have; check that source, then run again")] \
        if errors else []


def cmd_images(args: argparse.Namespace) -> int:
    """Print the images that have a lock as JSON; --changed REF: only those whose lock differs from that commit's;
    --published: only those whose definition says where they are published.

    Where GITHUB_OUTPUT names a file, `images=` goes there too, for the matrix of a later job.
    """
    locked = sorted(path.name.removesuffix(".lock.json") for path in (ROOT / "packer/locks").glob("*.lock.json"))
    if args.changed:
        locked = [name for name in locked if name in proposal.changed(ROOT, args.changed)]
    if args.published:
        locked = [name for name in locked if definition_file.load(ROOT, definition_file.path_of(ROOT, name)).publish]
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
    images = add("images", cmd_images)
    images.add_argument("--changed", metavar="REF", help="only images whose lock differs from REF's")
    images.add_argument("--published", action="store_true", help="only images that are published somewhere")
    add("propose", cmd_propose).add_argument("--dry-run", action="store_true", help="show what would be pushed")
    command = add("watch", cmd_watch, "?")
    command.add_argument("--update", action="store_true", help="make new locks of what matters")
    command.add_argument("--strict", action="store_true", help="warnings count as errors")
    command.add_argument("--wait", action="store_true", help="wait for another run on the same image")
