"""What digests have told, and what of it still has to be sent: kept beside the leases of the home
region, under a lease of its own.

A message is kept before it is sent, in the same write that counts its findings as told, and a
channel is noted before and after it is told. A run that is killed leaves the message to the next
one. A message can arrive twice where a channel does not answer, or a run is killed between the
answer and its note; it then says so. Neither Slack nor a topic of SNS knows a message again.
"""

from __future__ import annotations

import base64
import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import Field

from goldenami.aws.channels.lease import LIFE_S, Lease, hold_leases, read_attribute, read_lease
from goldenami.aws.services.notify import shortened
from goldenami.aws.session import Account, Client, translated
from goldenami.core.errors import GoldenError, Unanswered
from goldenami.core.records import Record, SharedRecord
from goldenami.fleet.digest.digest import DigestRecord
from goldenami.fleet.digest.findings import DigestFinding, Kind, Urgency, worst_first

ITEM = "golden:digest"
"""The item of the lease's table; no image has such a name."""
MOST_BYTES = 190_000
"""Of the notes: DynamoDB takes 400 KB an item ("Service, account, and table quotas"), and moto
counts what replaces a value beside it."""
MOST_OF_MESSAGE = 40_000
"""Bytes of a message's text that is kept to be sent; Slack takes no more."""
AGAIN = "(This may come a second time: nobody knows whether it arrived before.)\n"

Send = Callable[[str, str], None]


class Message(SharedRecord):
    """A message as every channel gets it, the `number`th of all. `waiting` are the channels that it
    has still to be sent to, `begun` is the one that a run was sending to when it was last heard
    of."""

    number: int
    week: str
    headline: str
    text: str
    waiting: list[str]
    begun: str = ""


class Told(SharedRecord):
    """`week` is the last that was reported, in `number` messages since the first, `billed` the last
    whose bill could be read; `keys` are the findings that were told and still stand, with the week
    in which each was told."""

    schema_version: Annotated[int, Field(ge=1)] = 1
    week: str = ""
    billed: str = ""
    number: int = 0
    keys: dict[str, str] = Field(default_factory=dict)
    queue: list[Message] = Field(default_factory=list)


class News(Record):
    """`settled` are subjects that are no longer found."""

    new: list[DigestFinding]
    standing: list[DigestFinding]
    settled: list[str]


def news(told: Told, record: DigestRecord) -> News:
    """Of what could not be looked at nothing is settled. Overspending is of a week: one before the
    first digest, or whose bill an earlier digest read, is no news."""
    found = [
        one
        for one in record.findings
        if one.kind is not Kind.OVERSPENT
        or one.stage == record.week
        or "" < told.billed < one.stage
    ]
    unseen = _unseen(record)
    subjects = {_subject(one.key) for one in found}
    lasting = {kind.value for kind in Kind if not kind.is_event}
    gone = {_subject(key) for key in told.keys} - subjects
    return News(
        new=worst_first([one for one in found if one.key not in told.keys]),
        standing=worst_first([one for one in found if one.key in told.keys]),
        settled=sorted(f"{kind}: {subject}" for kind, subject in gone if kind in lasting - unseen),
    )


def _subject(key: str) -> tuple[str, str]:
    kind, subject, _ = key.split("|", 2)
    return kind, subject


def _unseen(record: DigestRecord) -> set[str]:
    return {kind.value for gap in record.gaps for kind in gap.kinds}


def after(told: Told, record: DigestRecord, said: News) -> Told:
    """What is told once `said` is: what is no longer found may be found, and told, again."""
    unseen = _unseen(record)
    kept = {key: since for key, since in told.keys.items() if key.partition("|")[0] in unseen}
    kept |= {one.key: told.keys[one.key] for one in said.standing}
    kept |= {one.key: record.week for one in said.new}
    billed = told.billed if record.spent is None else max(record.week, told.billed)
    return told.model_copy(
        update={"week": max(record.week, told.week), "billed": billed, "keys": kept}
    )


def remembered(account: Account, region: str) -> Told:
    """What was told, without the lease: for who only looks."""
    dynamodb = account.dynamodb(region)
    with translated(region):
        return _told(dynamodb, read_lease(dynamodb, ITEM).notes)


def _packed(told: Told) -> str:
    """Thousands of keys say nearly the same: an eighth of their bytes."""
    return base64.b85encode(zlib.compress(told.model_dump_json().encode())).decode()


def _told(dynamodb: Client, notes: str) -> Told:
    """What the notes say; BadInput where they are damaged."""
    text = notes or "{}"
    if not text.startswith("{"):  # earlier digests did not pack them
        with contextlib.suppress(ValueError, zlib.error):
            text = zlib.decompress(base64.b85decode(notes)).decode()
    return read_attribute(dynamodb, ITEM, "notes", text, Told)


@contextlib.contextmanager
def held(account: Account, region: str) -> Iterator[Notes]:
    """The notes under their lease; a run that goes on is waited for."""
    with hold_leases(account, ITEM, [region], wait_s=2 * LIFE_S) as leases:
        yield Notes(leases[region], _told(account.dynamodb(region), leases[region].notes))


class Notes:
    """The notes under a held lease."""

    def __init__(self, lease: Lease, told: Told) -> None:
        self._lease, self.told = lease, told

    def keep(self, told: Told) -> None:
        """Write the notes. Where they would not fit, the oldest messages that no channel took go,
        then the findings that can wait longest: these are told again."""
        text = _packed(told)
        urgency = {kind.value: kind.urgency for kind in Kind}
        while len(text) > MOST_BYTES and (len(told.queue) > 1 or told.keys):
            if len(told.queue) > 1:
                told = told.model_copy(update={"queue": told.queue[1:]})
            else:
                kept = sorted(
                    told.keys,
                    key=lambda key: urgency.get(_subject(key)[0], Urgency.WHEN_THERE_IS_TIME),
                )[: len(told.keys) * 9 // 10]
                told = told.model_copy(update={"keys": {key: told.keys[key] for key in kept}})
            text = _packed(told)
        with translated():
            self._lease.note(text)
        self.told = told

    def add(self, told: Told, headline: str, text: str, channels: Iterable[str]) -> None:
        """Keep a message to be sent and, in the same write, what it tells."""
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
        """Send what waits, the oldest first; returns what was sent where, and why a channel took
        nothing. What waits for a channel that is not there any more goes."""
        sent, refused = list[str](), dict[str, GoldenError]()
        for message in list(self.told.queue):
            for channel in message.waiting:
                if channel in channels and channel not in refused:
                    try:
                        self._send(message.number, channel, channels[channel])
                        sent.append(f"{message.week} to {channel}")
                    except GoldenError as error:
                        refused[channel] = error
        left = [
            one.model_copy(update={"waiting": waiting})
            for one in self.told.queue
            if (waiting := [channel for channel in one.waiting if channel in channels])
        ]
        if left != self.told.queue:
            self.keep(self.told.model_copy(update={"queue": left}))
        return sent, list(refused.values())

    def _send(self, number: int, channel: str, send: Send) -> None:
        message = next(one for one in self.told.queue if one.number == number)
        again = AGAIN if message.begun == channel else ""
        self._note(number, begun=channel)
        try:
            send(message.headline, again + message.text)
        except Unanswered:
            raise
        except GoldenError:
            self._note(number, begun="")
            raise
        self._note(number, begun="", waiting=[one for one in message.waiting if one != channel])

    def _note(self, number: int, **changes: object) -> None:
        queue = [
            one.model_copy(update=changes) if one.number == number else one
            for one in self.told.queue
        ]
        self.keep(self.told.model_copy(update={"queue": queue}))
