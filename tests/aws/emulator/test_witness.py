"""Answers that botocore's models of the services do not allow."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from ec2_emulator.state import ApiCall
from ec2_emulator.witness import NOT_MENDED, differences
from support.aws.emulator import Emulator
from werkzeug import Response


def image(inside: str) -> str:
    return f"<R><requestId>x</requestId><imagesSet><item>{inside}</item></imagesSet></R>"


def error(code: str, message: str = "No.") -> str:
    inside = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<Response><Errors>{inside}</Errors><RequestID>x</RequestID></Response>"


IMAGES, KEY, BLOCKS = "ec2:DescribeImages", "kms:DescribeKey", "ebs:ListSnapshotBlocks"
WRONG: list[tuple[str, int, str | dict[str, Any], str]] = [
    (IMAGES, 200, image("<colour>gold</colour>"), ".Images[].colour: no such member"),
    (
        IMAGES,
        200,
        image("<imageState>gold</imageState>"),
        ".Images[].State: 'gold' is not in the enum",
    ),
    (IMAGES, 200, image("<isPublic>True</isPublic>"), ".Images[].Public: 'True' is no boolean"),
    (
        IMAGES,
        200,
        image("<name>a</name><name>b</name>"),
        ".Images[].Name: 2 elements",
    ),
    (IMAGES, 200, "<R><imagesSet><member/></imagesSet></R>", ".Images: an item <member>"),
    (
        "ec2:DescribeVolumes",
        200,
        "<R><volumeSet><item><size>big</size></item></volumeSet></R>",
        ".Volumes[].Size: 'big' is no integer",
    ),
    (
        "ec2:DescribeVolumes",
        200,
        "<R><volumeSet><item><createTime>2026-01-01</createTime></item></volumeSet></R>",
        ".Volumes[].CreateTime: '2026-01-01' is no timestamp",
    ),
    (IMAGES, 400, error("not-found"), ": no error not-found"),
    (
        IMAGES,
        400,
        error("InvalidAMIID.NotFound", ""),
        ": error InvalidAMIID.NotFound has no message",
    ),
    (KEY, 200, {"KeyMetadata": {}}, ".KeyMetadata.KeyId: missing"),
    (KEY, 200, {"KeyMetadata": {"KeyId": None}}, ".KeyMetadata.KeyId: null"),
    (KEY, 200, {"KeyMetadata": {"KeyId": 7}}, ".KeyMetadata.KeyId: 7 is no string"),
    (
        KEY,
        200,
        {"KeyMetadata": "gold"},
        ".KeyMetadata: 'gold' is no structure",
    ),
    (KEY, 400, {"__type": "NoSuchKey", "message": "No."}, ": no error NoSuchKey"),
    (BLOCKS, 200, {"BlockSize": "524288"}, ".BlockSize: '524288' is no integer"),
    (
        BLOCKS,
        200,
        {"ExpiryTime": "2026-01-01T00:00:00Z"},
        ".ExpiryTime: '2026-01-01T00:00:00Z' is no timestamp",
    ),
]
"""A call, the status and body of an answer, and what of it the model does not allow."""


def differ(name: str, status: int, body: str | dict[str, Any]) -> list[str]:
    service, _, action = name.partition(":")
    text = body if isinstance(body, str) else json.dumps(body)
    return differences(ApiCall(service, action, "us-east-1", "key"), Response(text, status))


@pytest.mark.parametrize(("name", "status", "body", "said"), WRONG, ids=[row[3] for row in WRONG])
def test_the_member_is_named(name: str, status: int, body: str | dict[str, Any], said: str) -> None:
    assert differ(name, status, body) == [name.partition(":")[2] + said]


def test_a_right_answer_differs_in_nothing() -> None:
    text = image(
        "<imageId>ami-0</imageId><imageState>available</imageState><isPublic>true</isPublic>"
    )
    assert differ(IMAGES, 200, text) == []
    assert differ(IMAGES, 400, error("InvalidAMIID.NotFound")) == []
    assert differ(KEY, 400, {"__type": "NotFoundException", "message": "No."}) == []
    assert differ(BLOCKS, 200, {"BlockSize": 524288, "ExpiryTime": 1.5, "Blocks": []}) == []


def test_what_stays_has_a_reason_and_is_met(aws: Emulator) -> None:
    [stays] = [line for line in NOT_MENDED if "StackEvents" in line]
    boto3.client("cloudformation").create_change_set(
        StackName="new",
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody='{"Resources":{}}',
    )
    events = boto3.client("cloudformation").describe_stack_events(StackName="new")
    assert repr(events["StackEvents"][0]["ResourceStatus"]) in stays


def test_the_caller_and_the_test_are_told(aws: Emulator) -> None:
    aws.answer("savingsplans:DescribeSavingsPlans", savingsPlans=[{"state": "gold"}])
    with pytest.raises(ClientError, match="EmulatorDefect"):
        boto3.client("savingsplans").describe_savings_plans()
    aws.reset()
    said = "DescribeSavingsPlans.savingsPlans[].state: 'gold' is not in the enum"
    assert aws.defects() == [said]
    assert aws.defects() == []
