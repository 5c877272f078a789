"""Rules of the emulator that a table can hold: refusals, client tokens, pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ec2_emulator.server  # noqa: F401 - registers every rule
import pytest
from ec2_emulator.rules import RULES
from support.aws import rule_requests as ask
from support.aws.emulator_probe import (
    TYPE,
    ProbeAccount,
    block,
    refused,
)
from support.aws.rule_requests import Asked


class Refusal(NamedTuple):
    """A rule, the code with which a call is refused that breaks it, and that call."""

    rule: str
    code: str
    call: str
    asked: Callable[[ProbeAccount], Asked]


BLOCK, SEAL, START, READ = (f"ebs.{name}" for name in (
    "put_snapshot_block", "complete_snapshot", "start_snapshot", "get_snapshot_block"))
SHARED = "ec2.modify_image_attribute"
INVALID, COMBINED, WRONG = ("ValidationException", "InvalidParameterCombination",
                            "InvalidParameterValue")
REFUSALS = [Refusal(*row) for row in (
    ("block_is_whole", INVALID, BLOCK, lambda a: ask.put(a, b"short")),
    ("block_is_what_was_signed", INVALID, BLOCK,
     lambda a: ask.put(a, Checksum=ask.put(a, block("b"))["Checksum"])),
    ("block_is_inside", INVALID, BLOCK, lambda a: ask.put(a, BlockIndex=2048)),
    ("block_comes_in_time", INVALID, BLOCK, lambda a: ask.put(a, snapshot=a.snapshot())),
    ("count_is_what_was_written", INVALID, SEAL, lambda a: ask.complete(a, 2)),
    ("snapshot_is_what_was_meant", INVALID, SEAL,
     lambda a: ask.complete(a, ChecksumAlgorithm="SHA256", Checksum="aaaa")),
    ("readable_when_complete", INVALID, "ebs.list_snapshot_blocks",
     lambda a: {"SnapshotId": a.start()}),
    ("parent_fits", INVALID, START, lambda a: ask.child(a, a.snapshot(2), 1)),
    ("snapshots_are_related", INVALID, "ebs.list_changed_blocks",
     lambda a: {"FirstSnapshotId": a.snapshot(), "SecondSnapshotId": a.snapshot()}),
    ("token_is_ours", INVALID, READ, lambda a: ask.token(a, index=1)),
    ("key_opens_blocks", "AccessDeniedException", READ, ask.locked),
    ("paginate", WRONG, "ec2.describe_images", lambda a: {"NextToken": "nonsense"}),
    ("name_is_free", "InvalidAMIName.Duplicate", "image", ask.named),
    ("snapshot_is_ready", "InvalidSnapshot.NotFound", "image",
     lambda a: {"snapshot": ask.NO_SNAPSHOT}),
    ("snapshot_is_ready", "IncorrectState", "image", lambda a: {"snapshot": a.start()}),
    ("volume_holds_snapshot", "InvalidBlockDeviceMapping", "image",
     lambda a: ask.mapped(a.snapshot(2), VolumeSize=1)),
    ("image_filter", WRONG, "ec2.describe_images",
     lambda a: ask.image(a) and {"Filters": [{"Name": "colour", "Values": ["gold"]}]}),
    ("find", "InvalidAMIID.NotFound", "ec2.describe_images",
     lambda a: {"ImageIds": [a.image(), ask.NO_IMAGE]}),
    ("describe_snapshots", COMBINED, "ec2.describe_snapshots",
     lambda a: {"SnapshotIds": [a.snapshot()], "MaxResults": 5}),
    ("disabled_is_not_shared", "InvalidAMIID.Unavailable", SHARED,
     lambda a: ask.image(a, "disable_image", **ask.SHARE)),
    ("default_key_is_not_shared", "OperationNotPermitted", SHARED,
     lambda a: {"ImageId": a.image(snapshot=ask.secret(a)), **ask.SHARE}),
    ("deprecation_date", WRONG, "ec2.enable_image_deprecation", lambda a: ask.deprecated(a, -1)),
    ("protected_is_not_deregistered", "OperationNotPermitted", "ec2.deregister_image",
     lambda a: ask.image(a, "enable_image_deregistration_protection")),
    ("snapshot_of_an_ami_stays", "InvalidSnapshot.InUse", "ec2.delete_snapshot", ask.used),
    ("launchable", "InvalidAMIID.Unavailable", "launch", lambda a: ask.image(a, "disable_image")),
    ("resolve", WRONG, "launch", lambda a: {"ImageId": "resolve:ssm:/golden-ami/y/latest"}),
    ("settle", "ParameterNotFound", "ssm.get_parameter",
     lambda a: {"Name": ask.parameter(a)["Name"]}),
    ("one_refresh_at_a_time", "InstanceRefreshInProgress", "autoscaling.start_instance_refresh",
     lambda a: ask.refresh(a, "1")),
    ("in_progress", "ActiveInstanceRefreshNotFound", "autoscaling.rollback_instance_refresh",
     lambda a: ask.refresh(a)),
    ("why_irreversible", "IrreversibleInstanceRefresh", "autoscaling.rollback_instance_refresh",
     lambda a: ask.refresh(a, "$Latest")),
    ("group_type", "ValidationError", "group", ask.grouped),
)]


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.rule)
def test_it_is_refused(row: Refusal, probed: ProbeAccount) -> None:
    asked = row.asked(probed)
    refused(row.code, probed.call(row.call), **asked)


# --- client tokens ------------------------------------------------------------------------------


class Token(NamedTuple):
    """A call that a ClientToken makes idempotent, what it gives, and how another is refused."""

    call: str
    given: tuple[str | int, ...]
    asked: Callable[[ProbeAccount], Asked]
    other: Asked
    code: str = "IdempotentParameterMismatch"


TOKENS = [
    Token(START, ("SnapshotId",), lambda a: {"VolumeSize": 1}, {"VolumeSize": 2},
          "ConflictException"),
    Token("ec2.run_instances", ("Instances", 0, "InstanceId"),
          lambda a: {**ask.image(a), "MinCount": 1, "MaxCount": 1, "InstanceType": TYPE},
          {"EbsOptimized": True}),
]
"""One of each protocol: the mechanism is one (`request_fields.IDEMPOTENT`)."""


@pytest.mark.parametrize("row", TOKENS, ids=lambda row: row.call)
def test_a_token_makes_one(row: Token, probed: ProbeAccount) -> None:
    asked, call = row.asked(probed), probed.call(row.call)
    given = []
    for token in ("one", "one", "two"):
        answer: Any = call(**asked, ClientToken=token)
        for key in row.given:
            answer = answer[key]
        given.append(answer)
    assert given[0] == given[1] != given[2]
    refused(row.code, call, **{**asked, **row.other}, ClientToken="one")


# --- pages --------------------------------------------------------------------------------------


class Pages(NamedTuple):
    """A call that lists: what is made first, its answer's list, and the sizes of the pages."""

    rule: str
    call: str
    asked: Callable[[ProbeAccount], Asked]
    listed: str
    page: int
    sizes: list[int]


PAGES = [
    Pages("paginate", "describe_images", ask.images, "Images", 5, [5, 2]),
    Pages("describe_snapshots", "describe_snapshots", ask.snapshots, "Snapshots", 5, [5, 2]),
    Pages("describe_launch_templates", "describe_launch_templates", ask.templates,
          "LaunchTemplates", 5, [5, 2]),
    Pages("describe_instance_type_offerings", "describe_instance_type_offerings",
          lambda a: {"LocationType": "region",
                     "Filters": [{"Name": "instance-type", "Values": ["g5.*"]}]},
          "InstanceTypeOfferings", 5, [5, 3]),
]


@pytest.mark.parametrize("row", PAGES, ids=lambda row: row.call)
def test_it_is_listed_in_pages(row: Pages, probed: ProbeAccount) -> None:
    asked = row.asked(probed)
    paginator = probed.ec2.get_paginator(row.call)
    pages = paginator.paginate(**asked, PaginationConfig={"PageSize": row.page})
    assert [len(page[row.listed]) for page in pages] == row.sizes


# --- all of them --------------------------------------------------------------------------------


def test_each_row_is_of_a_rule() -> None:
    tables = {row.rule for table in (REFUSALS, PAGES) for row in table}
    assert tables <= RULES.keys()
    assert len(tables) > 30


def test_each_rule_names_its_page() -> None:
    for name, page in RULES.items():
        assert page.startswith("https://docs.aws.amazon.com/"), name
