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

ROOT = Path(__file__).resolve().parents[2]


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
    process = subprocess.Popen([sys.executable, "-m", "ec2_emulator", "--port", "0"], text=True,
                               stdout=subprocess.PIPE,
                               env=shell.environment({"PYTHONPATH": str(ROOT / "scripts")}))
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
    assert aws.calls() == [("ec2:DescribeImages", "eu-west-1"),
                           ("ssm:DescribeParameters", "us-east-1"),
                           ("s3:ListBuckets", "us-east-1")]
    aws.reset()
    assert aws.calls() == []


def test_names_what_it_lacks_and_nobody_retries(aws: Any) -> None:
    code, status, message = _refused(boto3.client("ec2").describe_image_usage_reports)
    assert (code, status) == ("UnsupportedOperation", 501)
    assert message == "the emulator does not implement ec2:DescribeImageUsageReports"
    assert _refused(boto3.client("ssm").list_nodes)[:2] == ("UnsupportedOperation", 501)
    refused = _refused(lambda: boto3.client("pricing").describe_services())
    assert refused == ("UnsupportedOperation", 501,
                       "the emulator does not implement pricing:DescribeServices")


@pytest.mark.parametrize(("service", "call", "code", "status"), [
    ("ec2", "describe_images", "UnauthorizedOperation", 403),
    ("ssm", "describe_parameters", "AccessDeniedException", 400),
    ("autoscaling", "describe_auto_scaling_groups", "AccessDenied", 403), ("s3", "list_buckets", "AccessDenied", 403),
])
def test_a_missing_permission_is_named(
    aws: Any, service: str, call: str, code: str, status: int
) -> None:
    client = boto3.client(service)
    action = (
        "s3:ListAllMyBuckets"
        if service == "s3"
        else f"{service}:{client.meta.method_to_api_mapping[call]}"
    )
    aws.set(denied={"*": [action]})
    refused = _refused(getattr(client, call))
    assert refused[:2] == (code, status)
    assert f"is not authorized to perform: {action} " in refused[2]
    aws.set(denied={"AKIASOMEONEELSE00000": ["*"]})
    getattr(client, call)()


def test_a_policy_is_all_that_is_allowed(aws: Any) -> None:
    ec2, tags = boto3.client("ec2"), [{"ResourceType": "volume",
                                       "Tags": [{"Key": "a", "Value": "b"}]}]
    aws.set(allowed={"*": ["ec2:CreateVolume", "ec2:Describe*"]})
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    boto3.client("sts").get_caller_identity()
    refused = _refused(lambda: ec2.create_volume(AvailabilityZone="us-east-1a", Size=1,
                                                 TagSpecifications=tags))
    assert "is not authorized to perform: ec2:CreateTags " in refused[2]
    assert _refused(boto3.client("s3").list_buckets)[0] == "AccessDenied"
    assert aws.asked() == [["ec2:CreateVolume"], [], ["ec2:CreateVolume", "ec2:CreateTags"],
                           ["s3:ListAllMyBuckets"]]


def test_expired_and_unknown_credentials(aws: Any) -> None:
    temporary = boto3.Session(aws_session_token="of-yesterday", aws_access_key_id="ASIA",
                              aws_secret_access_key="none")
    temporary.client("ec2").describe_images(Owners=["self"])
    aws.set(expired_tokens=["of-yesterday"])
    assert _refused(temporary.client("ec2").describe_images)[0] == "RequestExpired"
    assert _refused(temporary.client("ssm").describe_parameters)[0] == "ExpiredTokenException"
    aws.set(unknown_keys=["AKIAEMULATOR00000000"])
    assert _refused(boto3.client("ec2").describe_images)[:2] == ("AuthFailure", 401)
    assert _refused(boto3.client("sts").get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_clock_a_quarter_of_an_hour_off_is_refused(aws: Any) -> None:
    aws.set(clock_ahead_s=14 * 60)
    boto3.client("ec2").describe_images(Owners=["self"])
    aws.set(clock_ahead_s=-16 * 60)
    assert _refused(boto3.client("ec2").describe_images)[0] == "RequestExpired"
    assert _refused(boto3.client("ssm").describe_parameters)[0] == "InvalidSignatureException"
