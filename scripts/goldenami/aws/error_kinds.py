"""Tables of AWS's error codes and botocore's exceptions: what each means, and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from botocore import exceptions as aws

from goldenami.core.errors import BadInput, GoldenError, HostNotReady, StageFailed, Unreachable

_LOGIN = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (`aws sso login`)"
)
_CONTINUES = "run again: it continues"


@dataclass(frozen=True)
class ErrorKind:
    """The meaning of some of AWS's error codes. `{action}`, `{where}`, `{code}`, `{text}` and
    `{policy}` in message and hint are replaced by the error's own."""

    codes: Collection[str]
    kind: type[GoldenError]
    message: str
    hint: str


class UnknownCredentials(HostNotReady):
    """AWS does not know the credentials. If a single region says so, the account has not enabled
    that region."""


SKEW = timedelta(minutes=5)
"""Largest clock difference that AWS accepts in a signature (IAM user guide, "Elements of an AWS API
request signature")."""
TIMED = ["RequestExpired", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"]
"""Error codes that may also be caused by a wrong clock."""
THROTTLED = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestThrottled",
    "RequestThrottledException",
    "ProvisionedThroughputExceededException",
    "SlowDown",
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
]
CLOCK = ErrorKind(
    ["RequestTimeTooSkewed", "RequestInTheFuture"],
    HostNotReady,
    "this machine's clock differs from AWS's by more than AWS allows{where}: {text}",
    "set the clock (`timedatectl set-ntp true`), then run again",
)
BY_TEXT = {
    "not enabled for cost explorer": ErrorKind(
        [],
        HostNotReady,
        "the account has not enabled Cost Explorer ({action})",
        "open it once in the console; a day later it has figures (docs/operate/costs.md)",
    ),
    "not eligible for free tier": ErrorKind(
        [],
        HostNotReady,
        "the account is on AWS's free plan, which refuses {action}{where}: {text}",
        "upgrade it to the paid plan (Billing and Cost Management)",
    ),
}
"""Errors told by a part of the message, in small letters: their codes mean other things, too."""
ENCODED = " Encoded authorization failure message: "
"""The words before the encoded end of EC2's denials."""
DECODE = (
    "`aws sts decode-authorization-message --encoded-message TEXT` tells what the text above says"
)
KINDS = (
    CLOCK,
    ErrorKind(
        ["RequestExpired"],
        HostNotReady,  # EC2's code for both causes
        "the AWS credentials have expired, or this machine's clock is off ({action}{where})",
        "get new ones, for instance `aws sso login`, or set the clock (`timedatectl "
        f"set-ntp true`); then {_CONTINUES}",
    ),
    ErrorKind(
        ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"],
        HostNotReady,
        "the AWS credentials have expired ({action}{where})",
        f"get new ones, for instance `aws sso login`; then {_CONTINUES}",
    ),
    ErrorKind(
        [
            "AuthFailure",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidAccessKeyId",
            "IncompleteSignature",
            "MissingAuthenticationToken",
        ],
        UnknownCredentials,
        "AWS does not know these credentials ({action}{where}: {code})",
        _LOGIN,
    ),
    ErrorKind(
        ["SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignature"],
        HostNotReady,
        "AWS refuses the signature ({action}{where}): the secret key is not the key id's",
        _LOGIN,
    ),
    ErrorKind(
        ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError"],
        HostNotReady,
        "the AWS credentials may not call {action}{where}: {text}",
        f"allow {{action}} in {{policy}}; then {_CONTINUES}",
    ),
    ErrorKind(
        ["OptInRequired"],
        HostNotReady,
        "the account has not enabled the region{where}: {text}",
        "enable it (account settings, AWS Regions), or take it out of the definition",
    ),
    ErrorKind(
        ["RegionDisabledException"],
        HostNotReady,
        "the account has not activated AWS STS{where}: {text}",
        "activate it (IAM, Account settings), or set AWS_REGION to a region where it is active",
    ),
    ErrorKind(
        THROTTLED,
        Unreachable,
        "AWS throttled {action}{where} too many times in a row",
        f"wait a minute; then {_CONTINUES}",
    ),
)
QUOTA = re.compile(r"(Limit|Quota|LimitPerRegion)Exceeded(Exception)?$|^ParameterMaxVersionLimit")
QUOTAS: tuple[tuple[str, str], ...] = (
    (
        "ResourceLimitExceeded",
        "20 copies of snapshots may be under way to a region: wait for others",
    ),
    (
        "ParameterMaxVersionLimitExceeded",
        "a parameter has 100 versions, and the oldest has a label: take it off",
    ),
    (
        "ParameterLimitExceeded",
        "a region has 10,000 standard parameters: delete records that nobody needs",
    ),
    (
        "VersionLimitExceeded",
        "a launch template has 10,000 versions: `golden retire IMAGE` deletes those of retired "
        "builds",
    ),
    (
        "PendingSnapshotLimitExceeded",
        "100 snapshots of a region may be unfinished: `golden sweep` removes ours",
    ),
    (
        "ConcurrentSnapshotLimitExceeded",
        "too many snapshots are unfinished: `golden sweep` removes ours",
    ),
    (
        "SnapshotLimitExceeded",
        "a region has 100,000 snapshots: `golden retire IMAGE` deletes those of retired builds",
    ),
    (
        "ServiceQuotaExceededException",
        "EBS's quota of unfinished snapshots: `golden sweep` removes ours",
    ),
)
"""What to do about a reached quota, by the suffix of its error code (EC2 and Systems Manager
endpoints and quotas; EC2 API reference, "Error codes"). The numbers are AWS's defaults; Service
Quotas shows the account's own."""
LIMIT = ErrorKind(
    (),
    StageFailed,
    "a quota of the account is reached ({action}{where}: {code}): {text}",
    f"{{quota}}, or ask for more in Service Quotas; then {_CONTINUES}",
)
FAILED = ErrorKind((), Unreachable, "AWS failed at {action}{where}: {code} {text}", _CONTINUES)
NOT_NOW = ErrorKind(
    (),
    Unreachable,
    "AWS refuses {action}{where} for now: {code}: {text}",
    f"{{row_hint}}; then {_CONTINUES}",
)
"""An error that has a row in `refusals.TABLE`; `{row_hint}` is that row's hint."""
MISTAKE = re.compile(
    "Invalid|Missing|Malformed|Unknown|Validation|Unsupported|Mismatch|NotFound|"
    "NotPermitted|Exists|Duplicate|TooLong|TooMany|NoSuch|Irreversible"
)
"""Parts of error codes that blame the request itself (EC2 API reference, "Error codes")."""
REFUSED = ErrorKind(
    (),
    StageFailed,
    "AWS refused {action}{where}: {code}: {text}",
    f"correct what it names, then {_CONTINUES}",
)
UNCLEAR = ErrorKind(
    (),
    StageFailed,
    "AWS refused {action}{where}: {code}: {text}",
    f"it may pass: {_CONTINUES}; if it stays, ask AWS Support what {{code}} means",
)

LOCAL: tuple[tuple[tuple[type[Exception], ...], type[GoldenError], str, str], ...] = (
    (
        (aws.NoCredentialsError, aws.PartialCredentialsError),
        HostNotReady,
        "no usable AWS credentials: {}",
        _LOGIN,
    ),
    (
        (aws.ProfileNotFound, aws.ConfigParseError, aws.ConfigNotFound),
        BadInput,
        "the AWS configuration: {}",
        "`aws configure list` shows what is used",
    ),
    (
        (aws.TokenRetrievalError, aws.SSOError, aws.CredentialRetrievalError),
        HostNotReady,
        "the AWS login is not usable: {}",
        "log in again, for instance `aws sso login`",
    ),
    (
        (aws.InvalidRegionError, aws.NoRegionError, aws.UnknownRegionError),
        BadInput,
        "no usable region: {}",
        "correct AWS_REGION, or the definition's `publish: regions:`",
    ),
    (
        (aws.ConnectionError, aws.HTTPClientError),
        Unreachable,
        "AWS did not answer{where}: {}",
        f"check the network, the region's name and AWS_ENDPOINT_URL, then {_CONTINUES}",
    ),
    (
        (aws.ParamValidationError,),
        BadInput,
        "AWS would refuse the request{where}: {}",
        "correct the definition",
    ),
    ((aws.BotoCoreError,), StageFailed, "AWS{where}: {}", _CONTINUES),
)
"""Exceptions that botocore raises before or instead of an answer: types, our error, message and
hint. The first row that matches counts, so the most specific types come first."""


_OTHER_POLICY = re.compile(
    "((?:service control|resource control|resource-based|session|VPC endpoint) policy"
    "|permissions boundary)"
)
"""What may deny a call beside the caller's own policy (IAM user guide, "Troubleshoot access denied
error messages")."""


def named_action(text: str) -> str:
    """The IAM action that the text of a denial names, which may differ from the call's, or ""."""
    action = re.search(r"perform: ([a-z0-9-]+:[A-Za-z]+)", text)
    return action[1] if action else ""


def denying_policy(text: str) -> str:
    """The policy to change, by the text of a denial: the caller's own, unless it names another."""
    named = _OTHER_POLICY.search(text)
    if named is None:
        return "the IAM policy of these credentials"
    return f"the {named[1]}, which stops whatever the IAM policy allows"
