"""Rules of the emulator that a table can hold: refusals, client tokens, pages."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ec2_emulator.server
import goldenami
import pytest
from ec2_emulator.rules import KEPT, rule
from goldenami.aws import refusals
from goldenami.aws.contract import CONTRACT
from support.aws import rule_requests as ask
from support.aws.rule_requests import TYPE, Asked, ProbeAccount, block, refused

BLOCK, SEAL, START, READ = (
    f"ebs.{name}"
    for name in ("put_snapshot_block", "complete_snapshot", "start_snapshot", "get_snapshot_block")
)
SHARED = "ec2.modify_image_attribute"
TYPES = "ec2.replace_image_instance_type_specification"
FAMILY = TYPE.partition(".")[0]
INVALID, COMBINED, WRONG = (
    "ValidationException",
    "InvalidParameterCombination",
    "InvalidParameterValue",
)
REFUSALS: list[tuple[str, str, str, Callable[[ProbeAccount], Asked]]] = [
    ("block_is_whole", INVALID, BLOCK, lambda a: ask.put(a, b"short")),
    (
        "block_is_what_was_signed",
        INVALID,
        BLOCK,
        lambda a: ask.put(a, Checksum=ask.put(a, block("b"))["Checksum"]),
    ),
    ("block_is_inside", INVALID, BLOCK, lambda a: ask.put(a, BlockIndex=2048)),
    ("block_comes_in_time", INVALID, BLOCK, lambda a: ask.put(a, snapshot=a.snapshot())),
    ("count_is_what_was_written", INVALID, SEAL, lambda a: ask.complete(a, 2)),
    (
        "snapshot_is_what_was_meant",
        INVALID,
        SEAL,
        lambda a: ask.complete(a, ChecksumAlgorithm="SHA256", Checksum="aaaa"),
    ),
    (
        "readable_when_complete",
        INVALID,
        "ebs.list_snapshot_blocks",
        lambda a: {"SnapshotId": a.start()},
    ),
    ("parent_fits", INVALID, START, lambda a: ask.child(a, a.snapshot(2), 1)),
    (
        "snapshots_are_related",
        INVALID,
        "ebs.list_changed_blocks",
        lambda a: {"FirstSnapshotId": a.snapshot(), "SecondSnapshotId": a.snapshot()},
    ),
    ("token_is_ours", INVALID, READ, lambda a: ask.token(a, index=1)),
    ("key_opens_blocks", "AccessDeniedException", READ, ask.locked),
    ("paginate", WRONG, "ec2.describe_images", lambda a: {"NextToken": "nonsense"}),
    ("name_is_free", "InvalidAMIName.Duplicate", "image", ask.named),
    (
        "snapshot_is_ready",
        "InvalidSnapshot.NotFound",
        "image",
        lambda a: {"snapshot": ask.NO_SNAPSHOT},
    ),
    ("snapshot_is_ready", "IncorrectState", "image", lambda a: {"snapshot": a.start()}),
    (
        "volume_holds_snapshot",
        "InvalidBlockDeviceMapping",
        "image",
        lambda a: ask.mapped(a.snapshot(2), VolumeSize=1),
    ),
    (
        "image_filter",
        WRONG,
        "ec2.describe_images",
        lambda a: ask.image(a) and {"Filters": [{"Name": "colour", "Values": ["gold"]}]},
    ),
    (
        "find",
        "InvalidAMIID.NotFound",
        "ec2.describe_images",
        lambda a: {"ImageIds": [a.image(), ask.NO_IMAGE]},
    ),
    (
        "describe_snapshots",
        COMBINED,
        "ec2.describe_snapshots",
        lambda a: {"SnapshotIds": [a.snapshot()], "MaxResults": 5},
    ),
    (
        "disabled_is_not_shared",
        "InvalidAMIID.Unavailable",
        SHARED,
        lambda a: ask.image(a, "disable_image", **ask.SHARE),
    ),
    (
        "default_key_is_not_shared",
        "OperationNotPermitted",
        SHARED,
        lambda a: {"ImageId": a.image(snapshot=ask.secret(a)), **ask.SHARE},
    ),
    ("deprecation_date", WRONG, "ec2.enable_image_deprecation", lambda a: ask.deprecated(a, -1)),
    (
        "protected_is_not_deregistered",
        "OperationNotPermitted",
        "ec2.deregister_image",
        lambda a: ask.image(a, "enable_image_deregistration_protection"),
    ),
    ("snapshot_of_an_ami_stays", "InvalidSnapshot.InUse", "ec2.delete_snapshot", ask.used),
    ("launchable", "InvalidAMIID.Unavailable", "launch", lambda a: ask.image(a, "disable_image")),
    (
        "type_lists",
        WRONG,
        TYPES,
        lambda a: ask.allowed(a, SupportedInstanceTypes=[f"g{n}.*" for n in range(101)]),
    ),
    ("type_lists", WRONG, TYPES, lambda a: ask.allowed(a, SupportedInstanceTypes=["g5.**"])),
    ("type_lists", WRONG, TYPES, lambda a: ask.allowed(a, SupportedInstanceTypes=["g 5.large"])),
    (
        "type_lists",
        WRONG,
        TYPES,
        lambda a: ask.allowed(
            a, SupportedInstanceTypes=["g5.*"], UnsupportedInstanceTypes=["g5.*"]
        ),
    ),
    (
        "allowed_type",
        COMBINED,
        "launch",
        lambda a: ask.restricted(a, SupportedInstanceTypes=["p5.*"]),
    ),
    (
        "allowed_type",
        COMBINED,
        "launch",
        lambda a: ask.restricted(
            a, SupportedInstanceTypes=[f"{FAMILY}.*"], UnsupportedInstanceTypes=[TYPE]
        ),
    ),
    ("resolve", WRONG, "launch", lambda a: {"ImageId": "resolve:ssm:/golden-ami/y/latest"}),
    (
        "settle",
        "ParameterNotFound",
        "ssm.get_parameter",
        lambda a: {"Name": ask.parameter(a)["Name"]},
    ),
    (
        "one_refresh_at_a_time",
        "InstanceRefreshInProgress",
        "autoscaling.start_instance_refresh",
        lambda a: ask.refresh(a, "1"),
    ),
    (
        "in_progress",
        "ActiveInstanceRefreshNotFound",
        "autoscaling.rollback_instance_refresh",
        lambda a: ask.refresh(a),
    ),
    (
        "why_irreversible",
        "IrreversibleInstanceRefresh",
        "autoscaling.rollback_instance_refresh",
        lambda a: ask.refresh(a, "$Latest"),
    ),
    ("group_type", "ValidationError", "group", ask.grouped),
    ("default_network", "VPCIdNotSpecified", "launch", ask.without_network),
    (
        "default_network",
        "VPCIdNotSpecified",
        "ec2.create_security_group",
        lambda a: ask.without_network(a) and {"GroupName": "x", "Description": "x"},
    ),
    ("put_parameter", "HierarchyTypeMismatchException", "ssm.put_parameter", ask.retyped),
    (
        "key_works",
        INVALID,
        START,
        lambda a: {"VolumeSize": 1, "Encrypted": True, "KmsKeyArn": ask.dead_key(a)},
    ),
]
"""A rule, the code with which a call is refused that breaks it, and that call."""


@pytest.mark.parametrize(("rule", "code", "call", "make"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_it_is_refused(
    rule: str,
    code: str,
    call: str,
    make: Callable[[ProbeAccount], Asked],
    probed: ProbeAccount,
) -> None:
    asked = make(probed)
    refused(code, probed.call(call), **asked)


def a_launch(account: ProbeAccount, **more: Any) -> str:
    [image] = account.ec2.describe_images(Owners=["self"])["Images"]
    asked = {"ImageId": image["ImageId"], "MinCount": 1, "MaxCount": 1, "InstanceType": TYPE}
    return str(account.ec2.run_instances(**asked, **more)["Instances"][0]["InstanceId"])


@pytest.mark.parametrize(
    ("call", "other", "code"),
    [
        (ProbeAccount.start, {"VolumeSize": 2}, "ConflictException"),
        (a_launch, {"EbsOptimized": True}, "IdempotentParameterMismatch"),
    ],
)
def test_a_token_makes_one(
    call: Callable[..., str], other: Asked, code: str, probed: ProbeAccount
) -> None:
    """One of each protocol: the mechanism is one."""
    probed.image()
    one, again, two = (call(probed, ClientToken=token) for token in ("one", "one", "two"))
    assert one == again != two
    refused(code, functools.partial(call, probed), **other, ClientToken="one")


def test_a_token_that_was_used_answers_with_the_state_of_now(probed: ProbeAccount) -> None:
    asked: Asked = {"VolumeSize": 1, "ClientToken": "one"}
    name = probed.start(**asked)
    probed.ebs.complete_snapshot(SnapshotId=name, ChangedBlocksCount=0)
    again = probed.ebs.start_snapshot(**asked)
    assert (again["SnapshotId"], again["Status"]) == (name, "completed")


def test_it_is_listed_in_pages(probed: ProbeAccount) -> None:
    pages = probed.ec2.get_paginator("describe_images").paginate(
        **ask.images(probed), PaginationConfig={"PageSize": 5}
    )
    assert [len(page["Images"]) for page in pages] == [5, 2]


def test_what_was_asked_of_spot_is_shown(probed: ProbeAccount) -> None:
    """With its data volumes."""
    data = [{"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": probed.snapshot()}}]
    launch = {"ImageId": probed.image(), "InstanceType": TYPE, "BlockDeviceMappings": data}
    probed.ec2.request_spot_instances(LaunchSpecification=launch)
    probed.ec2.request_spot_fleet(
        SpotFleetRequestConfig={
            "IamFleetRole": "arn:aws:iam::123456789012:role/x",
            "TargetCapacity": 1,
            "AllocationStrategy": "lowestPrice",
            "LaunchSpecifications": [launch],
        }
    )
    [fleet] = probed.ec2.describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
    [asked] = fleet["SpotFleetRequestConfig"]["LaunchSpecifications"]
    one = probed.ec2.describe_spot_instance_requests()["SpotInstanceRequests"][0]
    assert asked["BlockDeviceMappings"] == data == one["LaunchSpecification"]["BlockDeviceMappings"]


def test_the_last_page_of_budgets_has_no_token(probed: ProbeAccount) -> None:
    """Also no null, which a client takes for one."""
    budgets, raw = ask.client(probed.ec2.meta.endpoint_url, "budgets"), list[bytes]()
    budgets.meta.events.register(
        "before-parse", lambda response_dict, **_: raw.append(response_dict["body"])
    )
    budgets.describe_budgets(AccountId="123456789012")
    assert json.loads(raw[0]) == {"Budgets": []}


MECHANISM = {"_refuse", "hang", "apply", "_ask_moto", "find", "register"}
"""What raises by order of a test, or of what the emulator is not."""


def refusing(path: Path) -> Iterator[tuple[str, str]]:
    """Functions that refuse a call, and what says by which page."""
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, ast.FunctionDef) and each.name not in MECHANISM:
            raised = [
                ast.unparse(node.exc)
                for node in ast.walk(each)
                if isinstance(node, ast.Raise) and node.exc
            ]
            if any(
                text.startswith(("ApiError", "invalid_parameter", "InvalidRequest"))
                for text in raised
            ):
                rules = [ast.unparse(rule) for rule in each.decorator_list]
                yield f"{path.name}:{each.name}", f"{rules} {ast.get_docstring(each)}"


def test_each_refusal_has_a_page() -> None:
    folder = Path(ec2_emulator.server.__file__).parent
    found = dict(pair for path in sorted(folder.rglob("*.py")) for pair in refusing(path))
    assert len(found) > 40
    assert [
        name
        for name, page in found.items()
        if "['rule" not in page and "https://docs.aws.amazon.com/" not in page
    ] == []


def is_there(place: str) -> bool:
    """Whether a file of the product has the name: `FILE:NAME`."""
    file, _, name = place.partition(":")
    scripts = Path(goldenami.__file__).parents[1]
    roots = (scripts / "goldenami", scripts, scripts.parent / "roles")
    [found] = [root / file for root in roots if (root / file).is_file()]
    defined = rf'^ *(def|class) {name}\b|^{name}\b|"{name}"'
    return bool(re.search(defined, found.read_text(encoding="utf-8"), re.MULTILINE))


def test_each_row_of_the_contract_is_relied_on_and_has_a_page() -> None:
    assert {row[0] for row in REFUSALS} <= KEPT <= CONTRACT.keys()
    assert [name for name, row in CONTRACT.items() if not is_there(row.place)] == []
    assert not is_there("aws/images.py:gone")
    pages = [*(row.page for row in CONTRACT.values()), *(row.page for row in refusals.TABLE)]
    with_page = [page for page in pages if page.startswith("https://docs.aws.amazon.com/")]
    said = f"{len(with_page)} of {len(pages)} rows have a page, {len(KEPT)} are kept"
    assert len(with_page) == len(pages) > 85 and len(KEPT) > 65, said


def test_a_rule_without_a_row_is_refused() -> None:
    with pytest.raises(LookupError, match="no row for a_launch: add one"):
        rule(a_launch)
