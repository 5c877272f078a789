"""AWS errors that are nobody's mistake: how long to retry the call, and what to try instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

SETTLE_S = 120.0
"""Seconds within which EC2 shows a change ("Eventual consistency in the Amazon EC2
API": "wait time starts with a couple of seconds and increases gradually up to about five minutes";
snapshots and AMIs take seconds)."""


class Instead(IntEnum):
    """The change to make before the next launch. The number says how many items of (region, market,
    type, zone) the refusal is about; THE_SAME means the same call again."""

    THE_SAME = 0
    REGION = 1
    MARKET = 2
    TYPE = 3
    ZONE = 4


@dataclass(frozen=True)
class Refusal:
    """One kind of refusal: patterns of error codes and of calls, and AWS's page about them.

    `limit_s` is how many seconds the same call is repeated. `may_pass` is True if a later launch
    may be granted. `hint` is what a person may do.
    """

    codes: str
    calls: str
    page: str
    limit_s: float = 0.0
    instead: Instead = Instead.THE_SAME
    may_pass: bool = True
    hint: str = "it passes by itself: wait some minutes"


_DOCS = "https://docs.aws.amazon.com/"
_ERRORS = f"{_DOCS}ec2/latest/devguide/errors-overview.html"
_LATE = f"{_DOCS}ec2/latest/devguide/eventual-consistency.html"
_LAUNCH, QUOTA = "RunInstances", "ask for more in Service Quotas"
_SETTINGS = "CopyImage|EnableImage.*|ModifyImageAttribute|ReplaceImageInstanceTypeSpecification"

TABLE = (
    Refusal(
        "TooManyUpdates",
        "PutParameter|DeleteParameter",
        f"{_DOCS}systems-manager/latest/APIReference/API_PutParameter.html",
        60.0,
    ),
    Refusal(
        "TransactionConflictException",
        ".*Item",
        f"{_DOCS}amazondynamodb/latest/developerguide/transaction-apis.html",
        30.0,
    ),
    Refusal("IncorrectState", "RegisterImage", _ERRORS, SETTLE_S),
    Refusal(r"InvalidAMIID\.Unavailable", f"{_LAUNCH}|{_SETTINGS}", _ERRORS, SETTLE_S),
    Refusal(
        r"InvalidLaunchTemplate\w+\.(VersionNotFound|NotFoundException|NotFound)",
        "ModifyLaunchTemplate|CreateLaunchTemplateVersion",
        _LATE,
        SETTLE_S,
    ),
    Refusal(
        r"Invalid(AMIID|Group|GroupId|KeyPair|Snapshot)\.NotFound",
        f"{_LAUNCH}|RegisterImage|AuthorizeSecurityGroupIngress|(Create|Delete)Tags|"
        f"DescribeImageAttribute|{_SETTINGS}",
        _LATE,
        SETTLE_S,
    ),
    Refusal(
        r"InvalidSnapshot\.InUse|DependencyViolation|InvalidGroup\.InUse|VolumeInUse",
        "Delete(Snapshot|SecurityGroup|Volume)",
        _ERRORS,
        SETTLE_S,
        hint="something else uses it: its page in the console says what",
    ),
    Refusal(
        "ResourceLimitExceeded",
        "CopyImage",  # 20 copies may be under way to a region
        f"{_DOCS}ebs/latest/userguide/ebs-copy-snapshot.html",
        3600.0,
    ),
    # Our policies have conditions on tags, which IAM may not see yet on what was just created.
    Refusal(
        "UnauthorizedOperation|AccessDenied(Exception)?",
        f"{_LAUNCH}|RegisterImage|AuthorizeSecurityGroupIngress|(Create|Delete)Tags|"
        f"DescribeImageAttribute|{_SETTINGS}|TerminateInstances|PutSnapshotBlock|"
        "CompleteSnapshot|CreateLaunchTemplateVersion|ModifyLaunchTemplate|DeregisterImage|"
        "Delete(KeyPair|LaunchTemplate|SecurityGroup|Snapshot)",
        f"{_DOCS}IAM/latest/UserGuide/troubleshoot.html",
        8.0,
    ),
    Refusal(
        "InsufficientInstanceCapacity|InsufficientHostCapacity|SpotMaxPriceTooLow|Unsupported|"
        r"InsufficientFreeAddressesInSubnet|InvalidSubnetID\.NotFound|MissingInput",
        _LAUNCH,
        _ERRORS,
        instead=Instead.ZONE,
        hint="another zone, region or type may do",
    ),
    Refusal("InstanceLimitExceeded", _LAUNCH, _ERRORS, 0, Instead.TYPE, may_pass=False, hint=QUOTA),
    Refusal(
        "VcpuLimitExceeded|MaxSpotInstanceCountExceeded",
        _LAUNCH,
        _ERRORS,
        0,
        Instead.MARKET,
        may_pass=False,
        hint=QUOTA,
    ),
    Refusal(
        r"AuthFailure\.ServiceLinkedRoleCreationNotPermitted",
        _LAUNCH,
        f"{_DOCS}AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html",
        0,
        Instead.MARKET,
        may_pass=False,
        hint="`aws iam create-service-linked-role "
        "--aws-service-name spot.amazonaws.com` makes the role for Spot",
    ),
    Refusal(
        "VPCIdNotSpecified|DefaultVpcDoesNotExist",
        f"{_LAUNCH}|CreateSecurityGroup",
        _ERRORS,
        0,
        Instead.REGION,
        may_pass=False,
        hint="name subnets in `publish: subnets:`, or `aws ec2 create-default-vpc` makes one",
    ),
    Refusal(
        "PendingVerification",
        ".*",
        _ERRORS,
        0,
        Instead.REGION,
        hint="AWS looks at a new account for minutes, at most four hours, and writes a mail",
    ),
)


def find(call: str, code: str) -> Refusal | None:
    """The row for a call such as `RunInstances` and its error code, or None."""
    return next(
        (row for row in TABLE if re.fullmatch(row.codes, code) and re.fullmatch(row.calls, call)),
        None,
    )
