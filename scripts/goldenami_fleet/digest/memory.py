"""What digests have reported, and which messages still have to be sent. It is kept beside the
leases of the home region, under a lease of its own.

A message is stored before it is sent, in the same write that counts its findings as reported; a
channel is noted before and after it is sent to. If a run is killed, the next one sends the message.
A message can arrive twice if a channel does not answer, or if a run is killed between the answer
and its note; the message then says so. Neither Slack nor SNS recognises a repeated message.
"""

from __future__ import annotations

import base64
import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated

from goldenami.aws.channels.lease import LIFE_S, Lease, hold_leases, read_attribute, read_lease
from goldenami.aws.services.notify import shortened
from goldenami.aws.session import Account, Client, translated
from goldenami.core.errors import GoldenError, Unanswered
from goldenami.core.records import Record, SharedRecord
from pydantic import Field

from goldenami_fleet.digest.digest import DigestRecord
from goldenami_fleet.digest.findings import DigestFinding, Kind, Urgency, worst_first

ITEM = "golden:digest"
"""Key of the item in the table of leases; no image has such a name."""
MOST_BYTES = 190_000
"""Limit of the notes: DynamoDB takes 400 KB an item ("Service, account, and table quotas"), and
moto counts the old value beside the new one."""
MOST_OF_MESSAGE = 40_000
"""Bytes of a message's text that are kept; Slack takes no more."""
AGAIN = "(This may come a second time: nobody knows whether it arrived before.)\n"

URGENCIES = {kind.value: kind.urgency for kind in Kind}

Send = Callable[[str, str], None]


class Message(SharedRecord):
    """The `number`th message, the same for every channel. `waiting` are the channels that it has
    still to be sent to. `begun` is the channel to which a run was sending it when the run last
    wrote its notes, or ""."""

    number: int
    week: str
    headline: str
    text: str
    waiting: list[str]
    begun: str = ""


class Told(SharedRecord):
    """What was reported. `week` is the last reported week, `number` counts the messages since the
    first, `billed` is the last week whose bill could be read. `keys` are the reported findings that
    remain, with the week in which each was reported. `queue` are the messages to send."""

    schema_version: Annotated[int, Field(ge=1)] = 1
    week: str = ""
    billed: str = ""
    number: int = 0
    keys: dict[str, str] = Field(default_factory=dict)
    queue: list[Message] = Field(default_factory=list)


class News(Record):
    """The findings of a digest: new ones, ones that were reported before, and `settled` subjects
    that are no longer found."""

    new: list[DigestFinding]
    standing: list[DigestFinding]
    settled: list[str]


def news(told: Told, record: DigestRecord) -> News:
    """Sort the digest's findings by whether they were reported. A finding of a part that could not
    be read is never settled."""
    findings = [finding for finding in record.findings if _is_reportable(finding, told, record)]
    new, standing = list[DigestFinding](), list[DigestFinding]()
    for finding in worst_first(findings):
        if finding.key in told.keys:
            standing.append(finding)
        else:
            new.append(finding)
    unseen_kinds = _unseen_kinds(record)
    subjects = {_subject(finding.key) for finding in findings}
    lasting = {kind.value for kind in Kind if not kind.is_event}
    settled = {_subject(key) for key in told.keys} - subjects
    return News(
        new=new,
        standing=standing,
        settled=sorted(
            f"{kind}: {subject}" for kind, subject in settled if kind in lasting - unseen_kinds
        ),
    )


def _is_reportable(finding: DigestFinding, told: Told, record: DigestRecord) -> bool:
    # Overspending in a week before the first digest, or whose bill was read before, is no news.
    return (
        finding.kind is not Kind.OVERSPENT
        or finding.stage == record.week
        or "" < told.billed < finding.stage
    )


def _subject(key: str) -> tuple[str, str]:
    kind, subject, _ = key.split("|", 2)
    return kind, subject


def _unseen_kinds(record: DigestRecord) -> set[str]:
    return {kind.value for gap in record.gaps for kind in gap.kinds}


def after(told: Told, record: DigestRecord, reported: News) -> Told:
    """Return the state after a message with the findings of `reported` is stored. A finding that
    went away counts as new if it returns."""
    unseen_kinds = _unseen_kinds(record)
    kept = {key: since for key, since in told.keys.items() if key.partition("|")[0] in unseen_kinds}
    for finding in reported.standing:
        kept[finding.key] = told.keys[finding.key]
    for finding in reported.new:
        kept[finding.key] = record.week
    billed = told.billed if record.spent is None else max(record.week, told.billed)
    return told.model_copy(
        update={"week": max(record.week, told.week), "billed": billed, "keys": kept}
    )


def remembered(account: Account, region: str) -> Told:
    """Return what was reported, without taking the lease: for reading only."""
    dynamodb = account.dynamodb(region)
    with translated(region):
        return _parsed(dynamodb, read_lease(dynamodb, ITEM).notes)


def _compressed(told: Told) -> str:
    """Compress the notes: keys are alike, which leaves an eighth of their bytes."""
    return base64.b85encode(zlib.compress(told.model_dump_json().encode())).decode()


def _parsed(dynamodb: Client, notes: str) -> Told:
    """Parse the notes. Raises BadInput if they are damaged."""
    json_text = notes or "{}"
    # Earlier digests did not compress the notes.
    if not json_text.startswith("{"):
        with contextlib.suppress(ValueError, zlib.error):
            json_text = zlib.decompress(base64.b85decode(notes)).decode()
    return read_attribute(dynamodb, ITEM, "notes", json_text, Told)


@contextlib.contextmanager
def held(account: Account, region: str) -> Iterator[Notes]:
    """Hold the lease of the notes; wait for another run that holds it."""
    # Twice a lease's life, so that a killed run's lease has ended.
    with hold_leases(account, ITEM, [region], wait_s=2 * LIFE_S) as leases:
        yield Notes(leases[region], _parsed(account.dynamodb(region), leases[region].notes))


def _reduced(told: Told) -> Told:
    """Return the notes without the oldest message, or, if only one is left, without the tenth of
    the findings that can wait longest."""
    if len(told.queue) > 1:
        return told.model_copy(update={"queue": told.queue[1:]})
    most_urgent = sorted(told.keys, key=_urgency)[: len(told.keys) * 9 // 10]
    return told.model_copy(update={"keys": {key: told.keys[key] for key in most_urgent}})


def _urgency(key: str) -> Urgency:
    kind, _ = _subject(key)
    # A newer version of the program may have written a kind that this one does not know.
    return URGENCIES.get(kind, Urgency.WHEN_THERE_IS_TIME)


class Notes:
    """The notes while their lease is held."""

    def __init__(self, lease: Lease, told: Told) -> None:
        self._lease, self.told = lease, told

    def keep(self, told: Told) -> None:
        """Write the notes. If they do not fit, drop the oldest messages that no channel took, then
        the findings that can wait longest, which are reported again."""
        text = _compressed(told)
        while len(text) > MOST_BYTES and (len(told.queue) > 1 or told.keys):
            told = _reduced(told)
            text = _compressed(told)
        with translated():
            self._lease.note(text)
        self.told = told

    def add(self, told: Told, headline: str, text: str, channels: Iterable[str]) -> None:
        """Store a message to be sent and, in the same write, what it reports."""
        message = Message(
            number=told.number + 1,
            week=told.week,
            headline=headline,
            text=shortened(text, MOST_OF_MESSAGE),
            waiting=list(channels),
        )
        self.keep(
            told.model_copy(update={"number": message.number, "queue": [*told.queue, message]})
        )

    def deliver(self, channels: Mapping[str, Send]) -> tuple[list[str], list[GoldenError]]:
        """Send the waiting messages, the oldest first. Return what was sent where, and the errors
        of channels that took nothing. A message for a channel that no longer exists is dropped."""
        sent, refused = list[str](), dict[str, GoldenError]()
        for message in list(self.told.queue):
            for channel in message.waiting:
                if channel in channels and channel not in refused:
                    try:
                        self._send(message.number, channel, channels[channel])
                        sent.append(f"{message.week} to {channel}")
                    except GoldenError as error:
                        refused[channel] = error
        remaining = list[Message]()
        for message in self.told.queue:
            waiting = [channel for channel in message.waiting if channel in channels]
            if waiting:
                remaining.append(message.model_copy(update={"waiting": waiting}))
        if remaining != self.told.queue:
            self.keep(self.told.model_copy(update={"queue": remaining}))
        return sent, list(refused.values())

    def _send(self, number: int, channel: str, send: Send) -> None:
        message = next(queued for queued in self.told.queue if queued.number == number)
        again = AGAIN if message.begun == channel else ""
        # Noted before sending: if this run is killed now, the next one knows that it may have
        # arrived.
        self._note(number, begun=channel)
        try:
            send(message.headline, again + message.text)
        # `begun` stays: nobody knows whether the message arrived, so the next try says so.
        except Unanswered:
            raise
        except GoldenError:
            self._note(number, begun="")
            raise
        self._note(number, begun="", waiting=[name for name in message.waiting if name != channel])

    def _note(self, number: int, **changes: object) -> None:
        queue = list(self.told.queue)
        for index, message in enumerate(queue):
            if message.number == number:
                queue[index] = message.model_copy(update=changes)
        self.keep(self.told.model_copy(update={"queue": queue}))
