"""Lateness: reads that are out of date, things not found yet, regions that hang; each with a
probe."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from support.aws.emulator import Emulator
from support.aws.emulator_probe import ProbeAccount, probe, refused
from support.waiting import until

NAME = "/golden-ami/x/note"


def put(account: ProbeAccount, value: str) -> None:
    account.ssm.put_parameter(Name=NAME, Value=value, Type="String", Overwrite=True)


def get(account: ProbeAccount) -> str:
    return str(account.ssm.get_parameter(Name=NAME)["Parameter"]["Value"])


@probe("stale_answer")
def test_a_read_after_a_write_is_out_of_date_for_a_while(account: ProbeAccount) -> None:
    put(account, "old")
    assert get(account) == "old"
    account.set(late=[{"mode": "stale", "calls": ["ssm:*"], "seconds": 3600}])
    put(account, "new")
    assert get(account) == "old"
    account.set(late=[{"mode": "stale", "calls": ["ssm:*"], "seconds": 0}])
    assert get(account) == "new"


@probe("stale_answer")
def test_what_did_not_exist_seems_not_to_exist_yet(account: ProbeAccount) -> None:
    listed = {"Owners": ["self"], "Filters": [{"Name": "name", "Values": ["golden-1"]}]}
    assert account.ec2.describe_images(**listed)["Images"] == []
    account.set(late=[{"mode": "stale", "seconds": 3600}])
    account.image()
    assert account.ec2.describe_images(**listed)["Images"] == []
    account.set(late=[])
    assert len(account.ec2.describe_images(**listed)["Images"]) == 1


@probe("unknown_yet")
def test_what_was_just_made_is_not_found_by_its_id(account: ProbeAccount) -> None:
    image = account.image()
    account.set(late=[{"mode": "not-found", "calls": ["ec2:*"], "seconds": 3600}])
    assert image in refused("InvalidAMIID.NotFound", account.ec2.describe_images, ImageIds=[image])
    assert account.ec2.describe_images(Filters=[{"Name": "image-id",
                                                 "Values": [image]}])["Images"] == []
    account.set(late=[{"mode": "not-found", "calls": ["ec2:*"], "seconds": 0}])
    assert account.describe(image)["ImageId"] == image


@probe("unavailable")
def test_a_region_is_out_and_others_are_not(account: ProbeAccount) -> None:
    account.set(late=[{"mode": "out", "regions": ["us-east-1"]}])
    refused("Unavailable", account.ec2.describe_images)
    account.client("ec2", "eu-west-1").describe_images(Owners=["self"])


@probe("hang")
def test_a_hanging_region_does_not_answer(account: ProbeAccount) -> None:
    account.ec2.describe_images(Owners=["self"])  # the first answer takes longest
    account.set(late=[{"mode": "hanging", "seconds": 60}])
    client = boto3.client("ec2", region_name="us-east-1", endpoint_url=account.url,
                          aws_access_key_id="a",
                          aws_secret_access_key="b",
                          config=Config(read_timeout=2, retries={"total_max_attempts": 1}))
    with pytest.raises(ReadTimeoutError):
        client.describe_images(Owners=["self"])


@probe("cut")
def test_a_connection_breaks_before_a_call_or_after_it(account: ProbeAccount) -> None:
    put(account, "old")
    for mode, value in (("cut", "old"), ("lost", "new")):
        account.set(late=[{"mode": mode, "calls": ["ssm:PutParameter"]}])
        with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
            put(account, "new")
        assert get(account) == value


def met(aws: Emulator, seed: int) -> list[bool]:
    """Which of twenty calls are throttled."""
    aws.reset()
    aws.late({"mode": "throttled", "share": 0.5}, seed=seed)
    client = boto3.client("ec2", config=Config(retries={"total_max_attempts": 1}))
    outcomes = []
    for _ in range(20):
        try:
            client.describe_images(Owners=["self"])
        except ClientError:
            outcomes.append(True)
        else:
            outcomes.append(False)
    return outcomes


def test_a_seed_decides_which_calls_are_met(aws: Emulator) -> None:
    first = met(aws, 1)
    assert set(first) == {True, False}
    assert met(aws, 1) == first != met(aws, 2)


def test_connections_are_refused_for_a_while(aws: Emulator) -> None:
    client: Any = boto3.client("ec2", config=Config(retries={"total_max_attempts": 1}))
    client.describe_images(Owners=["self"])

    def outcome() -> str:
        try:
            client.describe_images(Owners=["self"])
        except (EndpointConnectionError, ConnectionClosedError) as error:
            return type(error).__name__
        return "answered"

    aws.refuse(5)
    until("a connection that is refused", lambda: outcome() == "EndpointConnectionError")
    until("an answer", lambda: outcome() == "answered")
