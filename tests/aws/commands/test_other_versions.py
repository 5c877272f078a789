"""Records in the account that another version of goldenami wrote, or nobody: what is newer is kept,
what is damaged ends in one line, and no region keeps another."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from goldenami.aws.channels.lease import TABLE
from goldenami.core.errors import BadInput
from goldenami_fleet.digest import memory
from support.aws import unbound
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

FAR = {"schema_version": 7, "canary": {"build_id": "?", "weights": [1, {"a": None}]}}
"""What a newer version has beside what this one knows."""


@pytest.fixture
def published(checkout: Checkout, aws: Emulator) -> list[str]:
    return [checkout.publish(number) for number in (1, 2)]


def written(region: str, attribute: str = "ledger", item: str = IMAGE) -> dict[str, Any]:
    """An attribute of the item as it stands in the table."""
    found = RegionState(region).dynamodb.get_item(TableName=TABLE, Key={"image": {"S": item}})
    text = found["Item"][attribute]["S"]
    if not text.startswith("{"):  # the digest packs its notes
        text = zlib.decompress(base64.b85decode(text)).decode()
    read: dict[str, Any] = json.loads(text)
    return read


def write(region: str, value: dict[str, Any], attribute: str = "ledger", item: str = IMAGE) -> None:
    RegionState(region).dynamodb.update_item(
        TableName=TABLE,
        Key={"image": {"S": item}},
        UpdateExpression=f"SET {attribute} = :value",
        ExpressionAttributeValues={":value": value},
    )


def test_what_a_newer_ledger_has_is_kept_by_every_command(
    checkout: Checkout, published: list[str]
) -> None:
    """Also within an entry, and a word for a test on GPUs that this version does not know."""
    ledger = written(REGIONS[0])
    newer = {**ledger, **FAR}
    newer["history"] = [
        {**entry, "gpu": "tested twice", "proof": {"of": 2}} for entry in ledger["history"]
    ]
    write(REGIONS[0], {"S": json.dumps(newer)})
    warned = (
        f"golden: warning: the ledger of {IMAGE} in {REGIONS[0]} (table {TABLE}) is of a newer "
        "goldenami: its schema version is 7, and this one knows 1; what it added is kept"
    )
    for command in ("status", "drift", "retire", "rollback"):
        said = checkout.run(command, IMAGE)
        assert said.count(warned) == 1 and REGIONS[1] + " (table" not in said, said
    builds.build(checkout.root, 3)
    assert warned in checkout.run("publish", IMAGE)
    found = written(REGIONS[0])
    assert {name: found[name] for name in FAR} == FAR
    assert found["history"][-1]["gpu"] == "tested twice", "of the entry that went back"
    assert "schema_version" in written(REGIONS[1]) and "canary" not in written(REGIONS[1])


DAMAGED: list[dict[str, Any]] = [
    {"S": "null"},
    {"S": '{"latest": '},
    {"M": {}},
    {"N": "5"},
    {"S": "[" * 100_000},
]


def test_a_damaged_ledger_is_one_line_with_what_helps_and_keeps_no_other_region(
    checkout: Checkout, published: list[str]
) -> None:
    line = f"the ledger of {IMAGE} in {REGIONS[0]} (table {TABLE}) cannot be read: "
    remedy = (
        f"`aws dynamodb update-item --region {REGIONS[0]} --table-name {TABLE} --key "
        f'\'{{"image": {{"S": "{IMAGE}"}}}}\' --update-expression \'REMOVE ledger\'`'
    )
    for value in DAMAGED:
        write(REGIONS[0], value)
        said = checkout.run("status", IMAGE, code=2)
        assert f"{line}the whole text: " in said and remedy in said, said
    write(REGIONS[0], {"S": '{"latest": {"build_id": "x"}}'})
    for command in ("status", "publish", "retire", "drift", "rollback"):
        said = checkout.run(command, IMAGE, code=2)
        assert f"{line}latest.build_id: " in said and remedy in said, said
    states = [RegionState(region) for region in REGIONS]
    assert states[1].ledger().latest.build_id == published[0]  # type: ignore[union-attr]
    states[0].dynamodb.update_item(
        TableName=TABLE, Key={"image": {"S": IMAGE}}, UpdateExpression="REMOVE ledger"
    )
    builds.build(checkout.root, 3)
    checkout.run("publish", IMAGE)
    checkout.run("status", IMAGE)


def test_a_number_that_is_none_and_a_ledger_that_only_a_newer_version_reads(
    checkout: Checkout, published: list[str]
) -> None:
    write(REGIONS[0], {"S": "soon"}, "expires")
    said = checkout.run("status", IMAGE, code=2)
    assert f"the expires of {IMAGE} in {REGIONS[0]}" in said and "it is no number" in said, said
    write(REGIONS[0], {"N": "0"}, "expires")
    write(REGIONS[0], {"S": json.dumps({**written(REGIONS[0]), **FAR, "latest": [1, 2]})})
    assert "to do: update goldenami: this one knows schema version 1" in checkout.run(
        "status", IMAGE, code=2
    )


def test_notes_of_digests(checkout: Checkout, published: list[str]) -> None:
    """What a newer digest noted is kept by one that sends; damaged notes are one line."""
    account = unbound.account()
    write(REGIONS[0], {"S": json.dumps({"muted": ["x"]})}, "notes", memory.ITEM)
    told = memory.remembered(account, REGIONS[0])
    memory.remember(account, REGIONS[0], told.model_copy(update={"week": "2026-W02"}))
    found = written(REGIONS[0], "notes", memory.ITEM)
    assert (found["muted"], found["week"]) == (["x"], "2026-W02")
    write(REGIONS[0], {"S": "no notes"}, "notes", memory.ITEM)
    line = f"the notes of {memory.ITEM} in {REGIONS[0]} .* cannot be read"
    with pytest.raises(BadInput, match=line) as caught:
        memory.remembered(account, REGIONS[0])
    assert "'REMOVE notes'" in caught.value.hint
