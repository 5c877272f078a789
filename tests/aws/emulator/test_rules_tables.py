"""Rules of the emulator beside what a probe asks for: client tokens, pages, rows."""

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
from goldenami_fleet.selftest.probes.probes import PROBES
from support.aws import rule_requests as ask
from support.aws.rule_requests import TYPE, Asked, ProbeAccount, refused

REFUSALS: list[tuple[str, str, str, Callable[[ProbeAccount], Asked]]] = [
    ("key_opens_blocks", "AccessDeniedException", "ebs.get_snapshot_block", ask.locked),
    ("default_network", "VPCIdNotSpecified", "launch", ask.without_network),
    (
        "default_network",
        "VPCIdNotSpecified",
        "ec2.create_security_group",
        lambda a: ask.without_network(a) and {"GroupName": "x", "Description": "x"},
    ),
    (
        "key_works",
        "ValidationException",
        "ebs.start_snapshot",
        lambda a: {"VolumeSize": 1, "Encrypted": True, "KmsKeyArn": ask.dead_key(a)},
    ),
]
"""A rule that no probe asks a real account for, the code with which a call is refused that breaks
it, and that call."""


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


MECHANISM = {
    *("_refuse", "hang", "apply", "_ask_moto", "find", "register"),
    *("_refused_by", "seed", "_no_bill"),
}
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
    asked = {row[0] for row in REFUSALS} | {probe.rule for probe in PROBES}
    assert asked <= KEPT <= CONTRACT.keys()
    assert [name for name, row in CONTRACT.items() if not is_there(row.place)] == []
    assert not is_there("aws/images.py:gone")
    pages = [*(row.page for row in CONTRACT.values()), *(row.page for row in refusals.TABLE)]
    with_page = [page for page in pages if page.startswith("https://docs.aws.amazon.com/")]
    said = f"{len(with_page)} of {len(pages)} rows have a page, {len(KEPT)} are kept"
    assert len(with_page) == len(pages) > 85 and len(KEPT) > 65, said


def test_a_rule_without_a_row_is_refused() -> None:
    with pytest.raises(LookupError, match="no row for a_launch: add one"):
        rule(a_launch)
