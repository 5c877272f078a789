"""The lease in DynamoDB without which nobody moves an image's pointers in a region, and the ledger
in the same item.

SSM has no compare-and-swap, so two publishers could overwrite `latest` in turns. The lease is an
item that only conditional writes change. Each taking of it raises its fencing number, and the
ledger is written on the condition that the number is still ours. A region's lease is in that
region, so a region that is down stops only itself.

The lease's times are AWS's, from the Date header of its answers, because the clocks of two
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
from goldenami.aws.calls import pages, tolerate, wait_for, wait_while
from goldenami.aws.channels.ledger import GpuProof, Ledger, LedgerEntry
from goldenami.aws.session import Account, Client, code, translated
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, Busy, GoldenError, StageFailed
from goldenami.core.process import ProcessId
from goldenami.core.records import R

TABLE, BUILD = "golden-ami", "/"
"""The table has an item for each image, and one `image/build` for a build while it is uploaded."""
LIFE_S, RENEW_S = 60.0, 10.0
"""Seconds until a lease expires, and between its renewals. A holder that died on another machine,
or in another pid namespace of this one, blocks others for a minute; a living one may miss five
renewals. Pointers move within seconds, and nothing that takes longer happens under their lease."""
WAIT_POLL_S = 1.0
TABLE_LIMIT_S, POLL_S = 120.0, 0.5
"""Seconds to wait for a new table, which is active within seconds, and between polls."""


@dataclass(frozen=True)
class LeaseState:
    """The item as it was read. If nobody holds the lease, `holder` is None and `expires` 0.

    `holder` is a nonce and the `tags.owner` of its process, `now` AWS's time, `notes` what `note`
    stored. `fence` is -1 if there is no table.
    """

    ledger: Ledger
    fence: int
    holder: str | None
    expires: int
    now: float
    notes: str = ""

    @property
    def owner(self) -> str:
        """The holder's process, or ""."""
        return (self.holder or "").partition(" ")[2]

    @property
    def is_held(self) -> bool:
        """Whether a process has the lease that may be alive, as far as this machine knows."""
        process = ProcessId.parse(self.holder or "")
        is_dead = process is not None and process.has_ended
        return bool(self.holder) and self.expires > self.now and not is_dead


class Lease:
    """A lease that this process holds. Its `fence` is greater than that of every earlier lease on
    the image in the region."""

    def __init__(self, dynamodb: Client, image: str, holder: str, state: LeaseState) -> None:
        self.image, self.ledger, self.fence = image, state.ledger, state.fence + 1
        self.holder, self._dynamodb = holder, dynamodb
        self._offset = state.now - time.monotonic()

    def record(self, ledger: Ledger) -> None:
        """Replace the ledger, unless it is unchanged. Raises Busy if another process has taken the
        lease."""
        if ledger != self.ledger:
            self._write("SET ledger = :ledger", {":ledger": {"S": ledger.model_dump_json()}})
            self.ledger = ledger

    def renew(self) -> None:
        self._write("SET expires = :expires", {":expires": {"N": str(self.expires())}})

    def expires(self) -> int:
        """When a lease that is taken or renewed now expires, in AWS's seconds since the epoch."""
        return int(time.monotonic() + self._offset + LIFE_S)

    def release(self) -> None:
        """Release the lease. The fencing number stays, for the next lease to exceed."""
        # A build's item is deleted: it has no ledger to guard, and the holder's nonce alone tells
        # whether the lease is ours.
        if BUILD in self.image:
            with tolerate("ConditionalCheckFailedException"):  # another process took it over
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
    """Update the image's item. Return False if the condition does not hold."""
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
    """Read the item of `image`; an empty state if there is no item yet, or no table."""
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
    now = clock.now()
    if date := answer["ResponseMetadata"]["HTTPHeaders"].get("date"):
        now = parsedate_to_datetime(date)
    numbers = {name: attributes.get(name, "0") for name in ("fence", "expires")}
    for name, text in numbers.items():
        if not str(text).isdecimal():
            attribute, hint = _place(dynamodb, image, name)
            raise BadInput(f"{attribute} cannot be read: it is no number", hint=hint)
    return LeaseState(
        ledger=read_attribute(dynamodb, image, "ledger", attributes.get("ledger", "{}"), Ledger),
        fence=int(numbers["fence"]),
        holder=attributes.get("holder"),
        expires=int(numbers["expires"]),
        now=now.timestamp(),
        notes=attributes.get("notes", ""),
    )


def _place(dynamodb: Client, image: str, attribute: str) -> tuple[str, str]:
    """An error's name for an attribute of an item, and the hint with the command that removes
    it."""
    region, key = dynamodb.meta.region_name, f'{{"image": {{"S": "{image}"}}}}'
    return (
        f"the {attribute} of {image} in {region} (table {TABLE})",
        f"run `aws dynamodb update-item --region {region} --table-name {TABLE} --key '{key}' "
        f"--update-expression 'REMOVE {attribute}'`: the next run begins a new one, without "
        "what the old one remembered",
    )


def read_attribute(dynamodb: Client, image: str, attribute: str, text: str, kind: type[R]) -> R:
    """Parse an attribute of an item as a record. Raises BadInput if it is damaged."""
    return records.read_shared(text, kind, *_place(dynamodb, image, attribute))


def note(dynamodb: Client, item: str, text: str) -> None:
    """Store text in an item of the table. The last writer wins: no lease guards it."""
    if read_lease(dynamodb, item).fence < 0:
        _make_table(dynamodb)
    dynamodb.update_item(
        TableName=TABLE,
        Key={"image": {"S": item}},
        UpdateExpression="SET notes = :notes",
        ExpressionAttributeValues={":notes": {"S": text}},
    )


def take_lease(dynamodb: Client, image: str) -> Lease:
    """Take the lease. Raises Busy, naming the holder, if another process holds it, unless it has
    expired or the holder died on this machine."""
    state = read_lease(dynamodb, image)
    if state.fence < 0:
        _make_table(dynamodb)
        state = read_lease(dynamodb, image)
    if state.is_held:
        raise Busy(
            f"{state.owner} is at work on {image}",
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
    was_written = _update(
        dynamodb,
        image,
        "SET holder = :holder, expires = :expires, fence = :fence",
        unchanged,
        values,
    )
    if not was_written:
        winner = read_lease(dynamodb, image)
        if winner.holder != lease.holder:  # if it is ours, only the answer to the write was lost
            raise Busy(
                f"{winner.owner or 'another process'} took the lease on {image} a moment ago",
                hint="run again when it has finished",
            )
    return lease


def items_of(dynamodb: Client, image: str) -> Iterator[str]:
    """Yield the items of an image: its own, and one for each build whose upload did not end."""
    with tolerate("ResourceNotFoundException"):  # there is no table
        for item in pages(dynamodb, "scan", "Items", TableName=TABLE, ProjectionExpression="image"):
            name = item["image"]["S"]
            if name == image or name.startswith(f"{image}{BUILD}"):
                yield name


def remove_item(dynamodb: Client, item: str) -> None:
    """Remove an item with the ledger in it, unless a process has its lease."""
    state = read_lease(dynamodb, item)
    if state.is_held:
        raise Busy(f"{state.owner} has the lease on {item}", hint="wait until it has ended")
    # Whoever takes the lease meanwhile raises the number, and the item stays.
    with tolerate("ConditionalCheckFailedException"):
        dynamodb.delete_item(
            TableName=TABLE,
            Key={"image": {"S": item}},
            ConditionExpression="attribute_not_exists(fence) OR fence = :seen",
            ExpressionAttributeValues={":seen": {"N": str(state.fence)}},
        )


def _make_table(dynamodb: Client) -> None:
    """Create the region's table of leases and wait for it. Another run may create it meanwhile."""
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
    """Hold the leases of all regions within the context, and renew them. A lease that another run
    holds is waited for up to `wait_s` seconds."""
    leases: dict[str, Lease] = {}
    stop, quick_account = threading.Event(), account.with_short_timeouts()
    keepers: list[threading.Thread] = []

    def take(region: str) -> Lease:
        return wait_while(
            lambda: take_lease(quick_account.dynamodb(region), image),
            lambda error: isinstance(error, Busy),
            limit_s=wait_s,
            pauses=WAIT_POLL_S,
            what=f"{region}: another run has the lease on {image}",
        )

    try:
        # Every run takes them in the same order, so that one of two runs gets them all.
        for region in sorted(regions):
            with translated(region):
                leases[region] = take(region)
            # A thread for each lease: a region that is down loses only its own.
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
        with ignored:  # if the lease is lost, the next write of the ledger fails
            lease.renew()
    with ignored:  # a lease that is not released expires by itself
        lease.release()


def new_entry(build_id: str, ami: str, baked_at: str, gpu: GpuProof, lease: Lease) -> LedgerEntry:
    """A ledger entry made now by this process, under the lease."""
    return LedgerEntry(
        build_id=build_id,
        ami=ami,
        baked_at=baked_at,
        since=clock.stamp(),
        by=tags.owner(),
        fence=lease.fence,
        gpu=gpu,
    )
