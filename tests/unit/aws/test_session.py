"""AWS's errors as a person reads them, and regions that do not exist."""

from __future__ import annotations

import email.utils
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
from botocore import exceptions as aws
from goldenami import cli
from goldenami.aws import refusals, tags
from goldenami.aws.regions import for_each_region, in_parallel
from goldenami.aws.session import check_regions, translate
from goldenami.core.errors import BadInput, ExitCode, StageFailed
from goldenami.core.process import ProcessId
from support.aws import unbound
from support.builds.tools import ROOT


def answered(
    code: str, message: str = "no", *, status: int = 400, action: str = "RegisterImage"
) -> aws.ClientError:
    response: dict[str, Any] = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return aws.ClientError(response, action)


DENIED = (
    "You are not authorized to perform this operation. User: "
    "arn:aws:iam::123456789012:user/golden is not "
    "authorized to perform: ec2:RegisterImage because no identity-based policy allows it"
)

ENCODED = "Encoded authorization failure message: XYZ"


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (
            answered("UnauthorizedOperation", DENIED),
            ExitCode.HOST,
            "may not call ec2:RegisterImage in eu-west-1",
        ),
        (
            answered("AccessDeniedException", action="PutParameter"),
            ExitCode.HOST,
            "may not call PutParameter",
        ),
        (
            answered(
                "AccessDeniedException",
                "User not enabled for cost explorer access",
                action="GetCostAndUsage",
            ),
            ExitCode.HOST,
            "has not enabled Cost Explorer (GetCost",
        ),
        (
            answered(
                "InvalidParameterCombination",
                "The specified instance type is not eligible for Free Tier.",
                action="RunInstances",
            ),
            ExitCode.HOST,
            "the account is on AWS's free plan, which refuses RunInstances in eu-west-1",
        ),
        (
            answered("ExpiredToken"),
            ExitCode.HOST,
            "the AWS credentials have expired (RegisterImage in eu-west-1)",
        ),
        (
            answered("RequestExpired"),
            ExitCode.HOST,
            "the AWS credentials have expired, or this machine's clock",
        ),
        (answered("AuthFailure"), ExitCode.HOST, "AWS does not know these credentials"),
        (
            answered("RequestTimeTooSkewed"),
            ExitCode.HOST,
            "this machine's clock differs from AWS's",
        ),
        (
            answered("SignatureDoesNotMatch", "The request signature we calculated does not match"),
            ExitCode.HOST,
            "AWS refuses the signature",
        ),
        (
            answered("OptInRequired"),
            ExitCode.HOST,
            "the account has not enabled the region in eu-west-1",
        ),
        (
            answered("RegionDisabledException", "STS is not activated", action="GetCallerIdentity"),
            ExitCode.HOST,
            "the account has not activated AWS STS in eu-west-1: STS is not activated",
        ),
        (
            answered("RequestLimitExceeded", status=503),
            ExitCode.UNREACHABLE,
            "throttled RegisterImage in eu-west-1",
        ),
        (
            answered("TooManyUpdates", action="PutParameter"),
            ExitCode.UNREACHABLE,
            "AWS refuses PutParameter in eu-west-1 for now: TooManyUpdates: no",
        ),
        (
            answered("PendingVerification"),
            ExitCode.UNREACHABLE,
            "AWS refuses RegisterImage in eu-west-1 for now",
        ),
        (
            answered("Blocked"),
            ExitCode.STAGE_FAILED,
            "AWS refused RegisterImage in eu-west-1: Blocked: no",
        ),
        (
            answered("UnauthorizedOperation", f"You may not. {ENCODED}"),
            ExitCode.HOST,
            "may not call RegisterImage in eu-west-1: You may not",
        ),
        (
            answered("InternalError", status=500),
            ExitCode.UNREACHABLE,
            "AWS failed at RegisterImage in eu-west-1",
        ),
        (
            answered("InvalidParameterValue", "Bad {braces}."),
            ExitCode.STAGE_FAILED,
            "AWS refused RegisterImage in eu-west-1: InvalidParameterValue: Bad {braces}",
        ),
        (aws.NoCredentialsError(), ExitCode.HOST, "no usable AWS credentials"),
        (aws.ProfileNotFound(profile="x"), ExitCode.BAD_INPUT, "the AWS configuration"),
        (
            aws.TokenRetrievalError(provider="sso", error_msg="x"),
            ExitCode.HOST,
            "the AWS login is not usable",
        ),
        (
            aws.EndpointConnectionError(endpoint_url="http://x"),
            ExitCode.UNREACHABLE,
            "AWS did not answer in eu-west-1",
        ),
        (
            aws.ReadTimeoutError(endpoint_url="http://x"),
            ExitCode.UNREACHABLE,
            "AWS did not answer in eu-west-1",
        ),
        (
            aws.ParamValidationError(report="{x}"),
            ExitCode.BAD_INPUT,
            "AWS would refuse the request in eu-west-1: ",
        ),
        (aws.InvalidRegionError(region_name="x y"), ExitCode.BAD_INPUT, "no usable region"),
        (
            aws.UnknownServiceError(service_name="x", known_service_names=[]),
            ExitCode.STAGE_FAILED,
            "AWS in eu-west-1",
        ),
    ],
)
def test_an_error_says_what_and_what_to_do(
    error: Exception, exit_code: ExitCode, message: str
) -> None:
    found = translate(error, "eu-west-1")
    assert (found.exit_code, message in found.message) == (exit_code, True), found.message
    assert found.hint and "XYZ" not in found.message


@pytest.mark.parametrize(
    ("reason", "policy"),
    [
        ("because no identity-based policy allows it", "the IAM policy of these credentials;"),
        (
            "with an explicit deny in a service control policy: arn:aws:organizations::1:p",
            "the service control policy, which stops",
        ),
        ("because no permissions boundary allows it", "the permissions boundary, which stops"),
        ("because no resource-based policy allows it", "the resource-based policy, which stops"),
    ],
)
def test_a_denial_names_the_policy_to_change(reason: str, policy: str) -> None:
    text = DENIED.replace("because no identity-based policy allows it", reason)
    found = translate(answered("UnauthorizedOperation", f"{text}. {ENCODED}"))
    assert f"allow ec2:RegisterImage in {policy}" in found.hint
    assert (reason in found.message, found.tail) == (True, "")


def test_a_denial_that_names_no_action_comes_with_the_command_that_reads_it() -> None:
    found = translate(answered("UnauthorizedOperation", f"You may not. {ENCODED}"))
    assert "`aws sts decode-authorization-message --encoded-message TEXT`" in found.hint
    assert ("XYZ" in found.message, found.tail) == (False, "XYZ")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("InvalidParameterValue", "correct what it names"),
        ("OperationNotPermitted", "correct what it names"),
        ("HierarchyTypeMismatchException", "correct what it names"),
        ("Blocked", "ask AWS Support what Blocked means"),
        ("IncorrectState", "it passes by itself"),
        ("PendingVerification", "at most four hours"),
    ],
)
def test_only_a_mistake_is_to_be_corrected(code: str, advice: str) -> None:
    hint = translate(answered(code)).hint
    assert advice in hint and ("correct" in hint) is ("correct" in advice)


def test_each_refusal_that_passes_has_its_page_and_what_is_done_about_it() -> None:
    for row in refusals.TABLE:
        assert row.page.startswith("https://docs.aws.amazon.com/"), row.codes
        assert (row.limit_s > 0) == (row.instead is refusals.Instead.THE_SAME), row.codes
        assert row.hint


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ResourceLimitExceeded", "20 copies of snapshots"),
        ("PendingSnapshotLimitExceeded", "`golden sweep`"),
        ("SnapshotLimitExceeded", "`golden retire IMAGE` deletes"),
        ("ParameterMaxVersionLimitExceeded", "take it off"),
        ("VersionLimitExceeded", "10,000 versions"),
        ("VcpuLimitExceeded", "remove what is not needed"),
        ("ServiceQuotaExceededException", "unfinished snapshots"),
    ],
)
def test_a_quota_says_which_and_what_to_do(code: str, advice: str) -> None:
    error = translate(answered(code, "Too many."), "us-east-1")
    assert (
        f"a quota of the account is reached (RegisterImage in us-east-1: {code}): Too many"
        in error.message
    )
    assert advice in error.hint and "Service Quotas" in error.hint


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "localhost:5000", "AWS: Invalid endpoint: localhost:5000"),
        (
            "AWS_PROFILE",
            "nobody",
            "the AWS configuration: The config profile (nobody) could not be found",
        ),
    ],
)
def test_an_environment_that_makes_no_client(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput) as caught:
        unbound.account().s3("us-east-1")
    assert caught.value.message == said
    monkeypatch.delenv(variable)
    with pytest.raises(BadInput, match="no usable region: "):
        unbound.account().s3("us east")


def test_a_process_that_has_ended_or_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner's name needs no entry among the users, as in a container that runs as a number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    who, _, me = tags.owner().rpartition(":")
    assert who.startswith("54321@")
    with subprocess.Popen(["sleep", "60"]) as process:
        ended, parent = ProcessId.of(process.pid), ProcessId.of(os.getppid())
        assert ended is not None and parent is not None
        assert not tags.has_ended(f"{who}:{ended}")
        process.kill()
    elsewhere = replace(ended, machine="0123456789ab")
    assert [
        tags.has_ended(f"{who}:{process}")
        for process in (ended, me, parent, replace(parent, started=1), elsewhere, ended.pid, "x")
    ] == [True, True, False, True, False, False, False]


def test_the_date_of_an_answer_tells_a_wrong_clock_from_old_credentials() -> None:
    error = answered("RequestExpired")
    for date, message in (
        (email.utils.formatdate(time.time() - 1200, usegmt=True), "this machine's clock differs"),
        (email.utils.formatdate(usegmt=True), "the AWS credentials have expired, or"),
    ):
        error.response["ResponseMetadata"]["HTTPHeaders"] = {"date": date}
        assert message in translate(error).message


@pytest.mark.parametrize(
    "hint", ["then run again", "then run again: it continues", "`golden sweep` continues"]
)
def test_several_regions_say_once_what_goes_on(hint: str) -> None:
    """The remedy of each stands first, without its own "then run again"."""
    codes = {"us-east-1": "ExpiredToken", "us-west-2": "Throttling", "eu-west-1": "Throttling"}

    def refused(region: str) -> None:
        raise answered(codes[region])

    with pytest.raises(StageFailed) as raised:
        for_each_region(codes, refused).require_all(hint=hint)
    assert raised.value.hint == f"get new ones, for instance `aws sso login`; wait a minute; {hint}"


def test_a_question_that_fails_leaves_the_answers_of_others() -> None:
    def refused() -> int:
        raise BadInput("nobody may ask", hint="")

    found = in_parallel({"us-east-1": lambda: 1, "budgets": refused})
    assert (found.done, found.causes) == ({"us-east-1": 1}, {"budgets": "nobody may ask"})


def test_a_region_that_does_not_exist() -> None:
    check_regions(["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"])
    with pytest.raises(BadInput, match="unknown region `us-east-11`; did you mean `us-east-1`"):
        check_regions(["eu-west-1", "us-east-11"])


IMPORTED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
clients = ("boto3", "botocore.session", "botocore.config", "botocore.client")
print(*(name for name in clients if name in sys.modules))
"""


def test_no_command_imports_the_code_of_clients_before_it_makes_one() -> None:
    """It takes 0.2 s, also of a command that asks nobody."""
    names = sorted(set(cli.MODULES.values()))
    assert len(names) >= 13
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, *names],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "scripts")},
    )
    assert ran.stdout == "\n"
