from __future__ import annotations

import base64
import hashlib
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, HTTPClientError
from support.aws.emulator_probe import block

ONCE = Config(retries={"total_max_attempts": 1})
PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 10})


def _put(ebs: Any, snapshot: str, data: bytes) -> None:
    ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockData=data, DataLength=len(data),
                           ChecksumAlgorithm="SHA256",
                           Checksum=base64.b64encode(hashlib.sha256(data).digest()).decode())


def test_nothing_fails_unasked(aws: Any, faults: Any) -> None:
    assert boto3.client("ec2").describe_images(Owners=["self"])["Images"] == []
    assert aws.calls() == [("ec2:DescribeImages", "us-east-1")]
    assert faults.fired() == []


def test_throttles_in_the_services_own_words(faults: Any) -> None:
    faults.add("ec2", "DescribeImages", times=1, error={"code": "RequestLimitExceeded"})
    client = boto3.client("ec2", config=ONCE)
    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        client.describe_images(Owners=["self"])
    client.describe_images(Owners=["self"])
    assert faults.fired() == ["ec2:DescribeImages error:RequestLimitExceeded"]


def test_a_patient_client_outlives_500s_and_resets(aws: Any, faults: Any) -> None:
    faults.add("ssm", "GetParametersByPath", sequence={"fail": 2, "pass": 1}, error={"code": "InternalServerError"})
    faults.add("ec2", "DescribeImages", times=2, reset=True)
    boto3.client("ssm", config=PATIENT).get_parameters_by_path(Path="/golden-ami")
    boto3.client("ec2", config=PATIENT).describe_images(Owners=["self"])
    assert len(faults.fired()) == 4
    assert [name for name, _ in aws.calls()] == ["ssm:GetParametersByPath", "ec2:DescribeImages"]


def test_a_connection_breaks_in_the_middle_of_a_block(aws: Any, faults: Any) -> None:
    ebs = boto3.client("ebs", config=ONCE)
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    faults.add("ebs", "PutSnapshotBlock", times=1, request={"cut_upload": {"after_bytes": 100_000}})
    with pytest.raises((ConnectionClosedError, EndpointConnectionError, HTTPClientError)):
        _put(ebs, snapshot, block("a"))
    assert ("ebs:PutSnapshotBlock", "us-east-1") not in aws.calls()
    _put(ebs, snapshot, block("a"))
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)


def test_one_region_is_down(faults: Any) -> None:
    faults.add("*", region="eu-west-1", reset=True)
    boto3.client("ec2", "us-east-1", config=ONCE).describe_images(Owners=["self"])
    with pytest.raises(ConnectionClosedError):
        boto3.client("ec2", "eu-west-1", config=ONCE).describe_images(Owners=["self"])
