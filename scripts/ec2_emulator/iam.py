"""IAM actions that an API call needs: the action of its own name, with the exceptions listed
here."""

from __future__ import annotations

import re

from ec2_emulator.rules import KEPT

OTHER_ACTIONS: dict[str, tuple[str, ...]] = {
    "sts:GetCallerIdentity": (),
    "budgets:DescribeBudgets": ("budgets:ViewBudget",),
    "service-quotas:GetServiceQuota": ("servicequotas:GetServiceQuota",),
    "s3:HeadBucket": ("s3:ListBucket",),
    "s3:ListObjectsV2": ("s3:ListBucket",),
    "s3:GetObject": ("s3:GetObject", "s3:ListBucket"),
    "s3:HeadObject": ("s3:GetObject", "s3:ListBucket"),
    "s3:ListBuckets": ("s3:ListAllMyBuckets",),
    "s3:CopyObject": ("s3:GetObject", "s3:PutObject"),
    "s3:CreateMultipartUpload": ("s3:PutObject",),
    "s3:UploadPart": ("s3:PutObject",),
    "s3:CompleteMultipartUpload": ("s3:PutObject",),
    "s3:DeleteObjects": ("s3:DeleteObject",),
}
"""Calls to the actions that they need instead of their own: none for GetCallerIdentity
(https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html), and for S3
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html. A caller
who may not list a bucket is not told that an object is missing:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html."""

KEY_ACTIONS = (
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
"""Actions that the caller needs on a KMS key that a request names for snapshots."""

EXTRA: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "tags_want_a_right": (
        r"ec2:(?!CreateTags|DeleteTags|Describe).*",
        rb"(?:^|&)TagSpecification\.1\.",
        ("ec2:CreateTags",),
    ),
    "start_tags_a_snapshot": (r"ebs:StartSnapshot", rb'"Tags": *\[', ("ec2:CreateTags",)),
    "start_wants_the_key": (r"ebs:StartSnapshot", rb'"KmsKeyArn": *"', KEY_ACTIONS),
    "copy_wants_the_key": (r"ec2:CopyImage", rb"(?:^|&)KmsKeyId=", KEY_ACTIONS),
    "launch_wants_the_key": (
        r"ec2:RunInstances",
        rb"(?:^|&)BlockDeviceMapping\.\d+\.Ebs\.KmsKeyId=[^&]",
        KEY_ACTIONS,
    ),
    "image_parameter_wants_a_right": (
        r"ssm:PutParameter",
        rb'"DataType": *"aws:ec2:image"',
        ("ec2:DescribeImages",),
    ),
    "profile_is_passed": (
        r"ec2:RunInstances",
        rb"(?:^|&)IamInstanceProfile\.(?:Arn|Name)=[^&]",
        ("iam:PassRole",),
    ),
    "refresh_launches": (
        r"autoscaling:StartInstanceRefresh",
        rb"DesiredConfiguration\.(?:LaunchTemplate|MixedInst)",
        ("ec2:RunInstances",),
    ),
}
"""Rules to (pattern of the call, pattern of its body, additional actions that it needs)."""
KEPT.update(EXTRA)


def actions(name: str, body: bytes) -> tuple[str, ...]:
    """Return the IAM actions that the call `name`, such as `ec2:RegisterImage`, needs with that
    body."""
    needed = list(OTHER_ACTIONS.get(name, (name,)))
    for call_pattern, body_pattern, extra_actions in EXTRA.values():
        if re.fullmatch(call_pattern, name) and re.search(body_pattern, body):
            needed += extra_actions
    # Without duplicates, in order: the first action that is denied is named in the refusal.
    return tuple(dict.fromkeys(needed))
