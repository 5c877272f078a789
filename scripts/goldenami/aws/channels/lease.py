"""Who may move an image's pointers in a region: a lease in DynamoDB, and the ledger beside it.

SSM has no compare-and-swap, so two publishers could take turns in overwriting `latest`. The lease
is an item that only conditional writes change; each taking raises its fencing number, and the
ledger is written under the condition that the number is still ours. A region's lease is in that
region: one that is down stops only itself.

Times of the lease are AWS's, from the Date header of its answers, because the clocks of two
publishers may differ.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as aws

from goldenami.aws import tags
from goldenami.aws.calls import tolerate, wait_for
from goldenami.aws.channels.ledger import Ledger
from goldenami.aws.session import Account, Client, code, translated
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, Busy, GoldenError, StageFailed
from goldenami.core.process import ProcessId
from goldenami.core.records import R

TABLE, BUILD = "golden-ami", "/"
"""An image has an item, and while it is uploaded each `image/build`."""
LIFE_S, RENEW_S = 60.0, 10.0
"""A holder that died on another machine, or in another pid namespace of this one, blocks others for
a minute; one that lives may miss five renewals. Pointers move within seconds: nothing that takes
longer happens under their lease."""
WAIT_POLL_S = 1.0
TABLE_LIMIT_S, POLL_S = 120.0, 0.5
"""A table is active within seconds."""


@dataclass(frozen=True)
class LeaseState:
    """The item as it was read: no holder, and `expires` 0, where nobody holds the lease. `holder`
    is a nonce and the `tags.owner` of its process, `now` AWS's time, `notes` what its holders note
    beside the ledger."""

    ledger: Ledger
    fence: int
    holder: str | None
    expires: int
    now: float
    notes: str = ""


class Lease:
    """A held lease. `fence` is greater than that of every lease on this image in this region
    before."""

    def __init__(self, dynamodb: Client, image: str, holder: str, state: LeaseState) -> None:
        self.image, self.ledger, self.fence = image, state.ledger, state.fence + 1
        self.holder, self.notes, self._dynamodb = holder, state.notes, dynamodb
        self._offset = state.now - time.monotonic()

    def record(self, ledger: Ledger) -> None:
        """Replace the ledger, or Busy where another has taken the lease meanwhile. An unchanged one
        is not sent."""
        if ledger != self.ledger:
            self._write("SET ledger = :ledger", {":ledger": {"S": ledger.model_dump_json()}})
            self.ledger = ledger

    def note(self, text: str) -> None:
        """Replace the notes, or Busy as in `record`."""
        self._write("SET notes = :notes", {":notes": {"S": text}})
        self.notes = text

    def renew(self) -> None:
        self._write("SET expires = :expires", {":expires": {"N": str(self.expires())}})

    def expires(self) -> int:
        """When a lease taken or renewed now ends, in AWS's seconds since the epoch."""
        return int(time.monotonic() + self._offset + LIFE_S)

    def release(self) -> None:
        """Let go; the number stays, for the next to exceed.

        A build's item goes: it has no ledger to guard, and its holder's nonce is enough to know it
        by.
        """
        if BUILD in self.image:
            with tolerate("ConditionalCheckFailedException"):  # another took it over
                self._dynamodb.delete_item(
                    TableName=TABLE,
                    Key={"image": {"S": self.image}},
                    ConditionExpression="holder = :holder",
                    ExpressionAttributeValues={":holder": {"S": self.holder}},
                )
            return
        self._write("REMOVE holder, expires", {})

    def _write(self, expression: str, values: dict[str, Any]) -> None:
        holds = {":holder": {"S": self.holder}, ":fence": {"N": str(self.fence)}}
        condition = "holder = :holder AND fence = :fence"
        if not _update(self._dynamodb, self.image, expression, condition, holds | values):
            raise Busy(
                f"another process took over the lease on {self.image}",
                hint="this one was silent for too long; run again when the other has finished",
            )


def _update(
    dynamodb: Client, image: str, expression: str, condition: str, values: dict[str, Any]
) -> bool:
    try:
        dynamodb.update_item(
            TableName=TABLE,
            Key={"image": {"S": image}},
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
        )
    except aws.ClientError as error:
        if code(error) != "ConditionalCheckFailedException":
            raise
        return False
    return True


def read_lease(dynamodb: Client, image: str) -> LeaseState:
    """The item of `image`; an empty one where there is none yet, or no table."""
    try:
        answer = dynamodb.get_item(
            TableName=TABLE, Key={"image": {"S": image}}, ConsistentRead=True
        )
    except aws.ClientError as error:
        if code(error) != "ResourceNotFoundException":
            raise
        return LeaseState(Ledger(), -1, None, 0, clock.now().timestamp())
    attributes = {
        name: next(iter(value.values())) for name, value in answer.get("Item", {}).items()
    }
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    numbers = {name: attributes.get(name, "0") for name in ("fence", "expires")}
    for name, text in numbers.items():
        if not str(text).isdecimal():
            what, hint = _place(dynamodb, image, name)
            raise BadInput(f"{what} cannot be read: it is no number", hint=hint)
    return LeaseState(
        ledger=read_attribute(dynamodb, image, "ledger", attributes.get("ledger", "{}"), Ledger),
        fence=int(numbers["fence"]),
        holder=attributes.get("holder"),
        expires=int(numbers["expires"]),
        now=parsedate_to_datetime(date).timestamp() if date else clock.now().timestamp(),
        notes=attributes.get("notes", ""),
    )


def _place(dynamodb: Client, image: str, attribute: str) -> tuple[str, str]:
    """The name of an attribute of an item in an error, and the command that removes it."""
    region, key = dynamodb.meta.region_name, f'{{"image": {{"S": "{image}"}}}}'
    return (
        f"the {attribute} of {image} in {region} (table {TABLE})",
        f"run `aws dynamodb update-item --region {region} --table-name {TABLE} --key '{key}' "
        f"--update-expression 'REMOVE {attribute}'`: the next run begins a new one, without "
        "what the old one remembered",
    )


def read_attribute(dynamodb: Client, image: str, attribute: str, text: str, kind: type[R]) -> R:
    """An attribute of an item as a record; BadInput for a damaged one."""
    return records.read_shared(text, kind, *_place(dynamodb, image, attribute))


def take_lease(dynamodb: Client, image: str) -> Lease:
    """Take the lease, or Busy naming its holder. One that has expired, or whose holder died on this
    machine, is taken over."""
    state = read_lease(dynamodb, image)
    if state.fence < 0:
        _make_table(dynamodb)
        state = read_lease(dynamodb, image)
    process = ProcessId.parse(state.holder or "")
    is_dead = process is not None and process.has_ended
    if state.holder and state.expires > state.now and not is_dead:
        raise Busy(
            f"{_owner(state.holder)} is at work on {image}",
            hint="wait for it; if it died, its lease ends in "
            f"{state.expires - state.now:.0f} s by itself",
        )
    lease = Lease(dynamodb, image, f"{secrets.token_hex(8)} {tags.owner()}", state)
    values = {
        ":fence": {"N": str(lease.fence)},
        ":holder": {"S": lease.holder},
        ":expires": {"N": str(lease.expires())},
        ":seen": {"N": str(state.fence)},
    }
    unchanged = "fence = :seen" if state.fence else "(attribute_not_exists(fence) OR fence = :seen)"
    taken = _update(
        dynamodb,
        image,
        "SET holder = :holder, expires = :expires, fence = :fence",
        unchanged,
        values,
    )
    if not taken:
        winner = read_lease(dynamodb, image).holder
        if winner != lease.holder:  # it is ours where only the answer to the write was lost
            raise Busy(
                f"{_owner(winner) if winner else 'another process'} took the lease on "
                f"{image} a moment ago",
                hint="run again when it has finished",
            )
    return lease


def _owner(holder: str) -> str:
    return holder.partition(" ")[2]


def _make_table(dynamodb: Client) -> None:
    """The table of leases, once in a region; two that make it at once are welcome."""
    try:
        dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "image", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "image", "AttributeType": "S"}],
        )
    except aws.ClientError as error:
        if code(error) != "ResourceInUseException":
            raise

    def active() -> bool | None:
        return dynamodb.describe_table(TableName=TABLE)["Table"]["TableStatus"] == "ACTIVE" or None

    if not wait_for(active, limit_s=TABLE_LIMIT_S, pauses=POLL_S):
        raise StageFailed(
            f"the DynamoDB table {TABLE} is not active after {TABLE_LIMIT_S:.0f} s",
            hint="run again; if it stays so, look at it in the console",
        )


@contextlib.contextmanager
def hold_leases(
    account: Account,
    image: str,
    regions: list[str],
    *,
    wait_s: float = 0.0,
) -> Iterator[dict[str, Lease]]:
    """Hold the leases of all regions, renewing them. All take them in one order, so that of two one
    gets them all.

    Another's lease is waited for `wait_s` seconds. Each lease has a thread of its own: a region
    that is down costs only its own.
    """
    leases: dict[str, Lease] = {}
    stop, hasty = threading.Event(), account.with_short_timeouts()
    keepers: list[threading.Thread] = []

    def take(region: str) -> Lease:
        return wait_for(
            lambda: take_lease(hasty.dynamodb(region), image),
            limit_s=wait_s,
            pauses=WAIT_POLL_S,
            passes=lambda error: isinstance(error, Busy),
            what=f"{region}: another run has the lease on {image}",
        )

    try:
        for region in sorted(regions):
            with translated(region):
                leases[region] = take(region)
            keepers.append(
                threading.Thread(target=_renew_until, args=(leases[region], stop), daemon=True)
            )
            keepers[-1].start()
        yield leases
    finally:
        stop.set()
        for keeper in keepers:
            keeper.join()


def _renew_until(lease: Lease, stop: threading.Event) -> None:
    ignored = contextlib.suppress(aws.ClientError, aws.BotoCoreError, GoldenError)
    while not stop.wait(RENEW_S):
        with ignored:  # a lease that is lost stops the next write of the ledger
            lease.renew()
    with ignored:  # what is not released now ends by itself
        lease.release()
