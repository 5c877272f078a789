from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import ec2_emulator.server  # noqa: F401 - registers every rule
import pytest
from botocore.exceptions import ClientError
from goldenami.core import shell

ROOT = Path(__file__).resolve().parents[3]


def _refused(call: Callable[[], Any]) -> tuple[str, int, str]:
    """(code, HTTP status, message) of the refusal."""
    with pytest.raises(ClientError) as caught:
        call()
    answer = caught.value.response
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    return (
        answer["Error"]["Code"],
        answer["ResponseMetadata"]["HTTPStatusCode"],
        answer["Error"]["Message"],
    )


def test_prints_what_to_export_and_ends_on_a_signal() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ec2_emulator", "--port", "0"],
        text=True,
        stdout=subprocess.PIPE,
        env=shell.environment({"PYTHONPATH": str(ROOT / "scripts")}),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    assert lines[0].startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:")
    assert "AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1" in lines[1], (
        "boto3 and older tools read the other"
    )
    assert "AWS_ACCESS_KEY_ID=" in lines[1] and "AWS_SECRET_ACCESS_KEY=" in lines[1]
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[0] == ""
    assert process.returncode == 0


def test_logs_calls_with_their_region_until_reset(aws: Any) -> None:
    boto3.client("ec2", "eu-west-1").describe_images(Owners=["self"])
    boto3.client("ssm").describe_parameters()
    boto3.client("s3").list_buckets()
    assert aws.calls() == [
        ("ec2:DescribeImages", "eu-west-1"),
        ("ssm:DescribeParameters", "us-east-1"),
        ("s3:ListBuckets", "us-east-1"),
    ]
    aws.reset()
    assert aws.calls() == []


def test_names_what_it_lacks_and_nobody_retries(aws: Any) -> None:
    code, status, message = _refused(boto3.client("ec2").describe_image_usage_reports)
    assert (code, status) == ("UnsupportedOperation", 501)
    assert message == "the emulator does not implement ec2:DescribeImageUsageReports"
    assert _refused(boto3.client("ssm").list_nodes)[:2] == ("UnsupportedOperation", 501)
    refused = _refused(lambda: boto3.client("pricing").describe_services())
    assert refused == (
        "UnsupportedOperation",
        501,
        "the emulator does not implement pricing:DescribeServices",
    )


def test_a_part_of_an_upload_that_was_given_up_is_refused(aws: Any) -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="parts")
    upload = {"Bucket": "parts", "Key": "a"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    s3.abort_multipart_upload(**upload)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.upload_part(**upload, PartNumber=1, Body=b"late")
