"""What the roles of the account's template may do to another team's resources: nothing.

`tests/aws/aws/test_policies.py` holds the same documents to what the commands need.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from goldenami.aws import refusals, tags
from support import trees
from support.aws.account_template import BOUNDARY, BY_COMMANDS, BY_HAND, RAW, ROLES, document
from support.aws.iam_policies import REFERENCE, Asked, about, allows, kinds_of, listed
from support.builds.tools import POLICIES

ACCOUNT = "123456789012"
PARAMETERS = f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter"
OTHERS = {"aws:ResourceTag/team": "theirs", "aws:ResourceTag/Name": "theirs"}
"""The tags of what is another team's."""
FORGED: dict[str, Any] = {
    f"aws:RequestTag/goldenami:{name}": "x"
    for name in ("image", "expires", "cluster", "drift-of", "owner", "hub")
}
FORGED["aws:TagKeys"] = [key.partition("/")[2] for key in FORGED]
"""Tags of ours that a caller asks for."""


def _ec2(kind: str, name: str) -> str:
    return f"arn:aws:ec2:us-east-1:{'' if kind in ('image', 'snapshot') else ACCOUNT}:{kind}/{name}"


IDS = {
    "image": ("ami-0a", "ec2:ImageID"),
    "snapshot": ("snap-0a", "ec2:SnapshotID"),
    "volume": ("vol-0a", "ec2:VolumeID"),
    "instance": ("i-0a", "ec2:InstanceID"),
    "launch-template": ("lt-0a", "ec2:LaunchTemplateID"),
    "security-group": ("sg-0a", "ec2:SecurityGroupID"),
    "network-interface": ("eni-0a", "ec2:NetworkInterfaceID"),
    "key-pair": ("key-0a", "ec2:KeyPairName"),
}
SAID = [
    {},
    {"ec2:CreateAction": "Other"},
    FORGED,
    {"kms:ViaService": "ec2.us-east-1.amazonaws.com"},
    {
        "kms:ViaService": "ssm.us-east-1.amazonaws.com",
        "kms:EncryptionContext:PARAMETER_ARN": f"{PARAMETERS}/theirs",
    },
    {"kms:GrantIsForAWSResource": "true", "kms:ViaService": "ec2.us-east-1.amazonaws.com"},
    {"ec2:LaunchTemplate": _ec2("launch-template", "lt-0a")},
    {"ec2:Owner": ACCOUNT},
    {"ec2:SourceInstanceARN": _ec2("instance", "i-0mine")},
]
"""What a caller may have the request say: each is tried with each action and resource."""
THEIRS: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{kind: (_ec2(kind, name), {key: name, **OTHERS}) for kind, (name, key) in IDS.items()},
    "group": (
        f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName/theirs",
        OTHERS,
    ),
    "parameter": (f"{PARAMETERS}/theirs/db", OTHERS),
    "golden-like parameter": (f"{PARAMETERS}/golden-ami-theirs/db", OTHERS),
    "key": (
        f"arn:aws:kms:us-east-1:{ACCOUNT}:key/theirs",
        {"kms:ResourceAliases": ["alias/theirs"], **OTHERS},
    ),
    "golden-like key": (
        f"arn:aws:kms:us-east-1:{ACCOUNT}:key/theirs",
        {"kms:ResourceAliases": ["alias/golden-gate", "alias/golden-ami-gate"]},
    ),
    "golden-like repository": (f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/golden-gate/app", {}),
    "golden-like topic": (f"arn:aws:sns:us-east-1:{ACCOUNT}:golden-idle-gate", {}),
    "bucket": ("arn:aws:s3:::theirs", {}),
    "object": ("arn:aws:s3:::theirs/store/secret", {}),
    "table": (f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/theirs", {}),
    "topic": (f"arn:aws:sns:us-east-1:{ACCOUNT}:theirs", {}),
    "stack": (f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/theirs/1", {}),
    "role": (f"arn:aws:iam::{ACCOUNT}:role/theirs", {"iam:PassedToService": "ec2.amazonaws.com"}),
    "metric": ("*", {"cloudwatch:namespace": "theirs"}),
}
MORE_ACTIONS = {
    "autoscaling:UpdateAutoScalingGroup",
    "autoscaling:DeleteAutoScalingGroup",
    "cloudformation:DeleteStack",
    "cloudformation:UpdateStack",
    "dynamodb:DeleteTable",
    "dynamodb:PutItem",
    "ec2:ModifySnapshotAttribute",
    "ec2:CreateVolume",
    "ec2:AttachVolume",
    "ec2:CopySnapshot",
    "ec2:StopInstances",
    "ec2:RebootInstances",
    "ec2:DeleteLaunchTemplate",
    "ec2:DeleteTags",
    "iam:PassRole",
    "iam:CreateRole",
    "iam:AttachRolePolicy",
    "kms:ScheduleKeyDeletion",
    "kms:PutKeyPolicy",
    "kms:Sign",
    "s3:DeleteObject",
    "s3:GetObject",
    "ssm:SendCommand",
    "ssm:GetParameters",
    "ssm:PutParameter",
    "sts:AssumeRole",
}
EVERY_ACTION = sorted(
    {
        action
        for name in BY_COMMANDS
        for statement in document(name)["Statement"]
        for action in statement["Action"]
    }
    | MORE_ACTIONS
)

_NETWORK = "the default network has no tag of ours; {} has to have one"
_NEW = "new with the instance, which has to have our tag"
UNNARROWED: dict[tuple[str, str], str] = {
    ("ssm:GetParameter", "parameter"): "retire and costs: what names our AMI keeps it, whoever's "
    "parameter it is; plain text only, no SecureString is decrypted",
    ("ec2:CreateSecurityGroup", "vpc"): _NETWORK.format("the group itself"),
    ("ec2:RunInstances", "subnet"): _NETWORK.format("the instance"),
    ("ec2:RunInstances", "spot-instances-request"): _NEW,
    ("ec2:CreateImage", "image"): "new, of an instance that has to be ours",
    ("ec2:CreateImage", "snapshot"): "new, of an instance that has to be ours",
    ("ssm:SendCommand", "document"): "AWS's own shell script, on an instance that has to be ours",
}
"""What no condition narrows though another team's may be named, with the reason: all such
exceptions are here."""
UNNARROWED |= {
    ("ce:GetAnomalies", kind): "digest: of the whole bill, by no monitor's name"
    for kind in ("", *THEIRS)
}
UNNARROWED |= {
    ("kms:DescribeKey", kind): "the account's default key for EBS has any name, and the "
    "key of an older AMI may have lost its alias; what a key is, not what it encrypts"
    for kind in ("", *THEIRS)
}
UNNARROWED |= {
    (read, kind): UNNARROWED["ssm:GetParameter", "parameter"]
    for kind in ("parameter", "golden-like parameter")
    for read in ("ssm:GetParameter", "ssm:GetParameters")
}
UNNARROWED |= {
    (
        "ec2:RunInstances by template",
        kind,
    ): "part of a launch whose template and AMI have to be ours"
    for kind in (
        "instance",
        "volume",
        "security-group",
        "key-pair",
        "placement-group",
        "capacity-reservation",
    )
}
UNNARROWED |= {
    (
        f"{made} with our tags",
        kind,
    ): "the call makes it: there is none of another team's that it could name"
    for made, kind in (
        ("ebs:StartSnapshot", "snapshot"),
        ("ec2:RegisterImage", "image"),
        ("ec2:CreateLaunchTemplate", "launch-template"),
        ("ec2:CreateSecurityGroup", "security-group"),
        ("ec2:CreateSnapshot", "snapshot"),
        ("ec2:CreateVolume", "volume"),
        ("ec2:ImportKeyPair", "key-pair"),
        ("ec2:RunInstances", "instance"),
        ("ec2:RunInstances", "volume"),
    )
}

MONEY = {
    "budgets:ViewBudget",
    "savingsplans:DescribeSavingsPlans",
    "cloudwatch:GetMetricData",
    "cloudwatch:ListMetrics",
    "ce:GetCostAndUsage",
    "ce:GetReservationPurchaseRecommendation",
    "ce:GetReservationUtilization",
    "ce:GetSavingsPlansPurchaseRecommendation",
    "ce:GetSavingsPlansUtilization",
}
"""Reads of `costs`: what the whole account measures and pays, by views and budgets that no team
has."""


def _is_bare_read(action: str) -> bool:
    """A read that IAM cannot narrow to any resource, or of the whole account's money."""
    reads = action.partition(":")[2].startswith(("Describe", "Get", "List"))
    return action in MONEY or (reads and not kinds_of(action))


def escalations(name: str) -> Iterator[str]:
    for action in EVERY_ACTION:
        policies = [about(document(policy), action) for policy in ROLES.get(name, [name])]
        if not any(policy["Statement"] for policy in policies):
            continue
        for (kind, (resource, context)), said in product(THEIRS.items(), SAID):
            way = " by template" if "ec2:LaunchTemplate" in said else ""
            if said is FORGED:
                way = " with our tags"
            named = {(action, kind), (action + way, kind)} & UNNARROWED.keys()
            asked = Asked(action, resource, {**context, **said})
            if not named and not _is_bare_read(action) and allows(policies, BOUNDARY, asked):
                yield f"{action} on the {kind}, {said}"


@pytest.mark.parametrize("name", sorted([*ROLES, *BY_HAND]))
def test_no_role_may_touch_what_is_another_teams(name: str) -> None:
    found = list(escalations(name))
    if name == "PackerPolicy":  # the one that says so, and that no role has
        assert {line.partition(",")[0] for line in found} == {
            "ec2:CreateTags on the image",
            "ec2:CreateTags on the snapshot",
        }
    else:
        assert found == []


OUR_NAME = re.compile(r"[:/]golden-(ami|idle)($|/|-(bucket|users)($|/)|-instance$)")
"""Whole, not the beginning of another team's."""


@pytest.mark.parametrize("name", sorted(BY_COMMANDS))
def test_whatever_has_no_condition_is_ours_by_name_or_cannot_be_narrowed(name: str) -> None:
    loose = []
    for statement in document(name)["Statement"]:
        if "Condition" in statement or statement["Effect"] == "Deny":
            continue
        for action, resource in product(statement["Action"], listed(statement["Resource"])):
            is_named = OUR_NAME.search(resource) or resource.endswith("/AWS-RunShellScript")
            kind = resource.rpartition("/")[0].rpartition(":")[2]
            if not (is_named or (action, kind) in UNNARROWED or _is_bare_read(action)):
                loose.append(f"{action} on {resource}")
    assert loose == []


GLOBAL = {
    "aws:TagKeys",
    "ec2:CreateAction",
    "kms:ViaService",
    "kms:GrantIsForAWSResource",
    "cloudwatch:namespace",
    "ec2:SourceInstanceARN",
}
"""Keys that the reference has at actions, which cfn-lint's copy leaves out, or that are keys of
every request."""


@pytest.mark.parametrize("path", trees.scanned(20, POLICIES, "*.json"), ids=lambda path: path.stem)
def test_every_condition_is_one_that_aws_documents(path: Path) -> None:
    odd = []
    for statement in json.loads(path.read_text(encoding="utf-8"))["Statement"]:
        # A key that a resource has not is absent there, as `Null` may demand.
        keys = [
            key
            for conditions in statement.get("Condition", {}).values()
            for key, wanted in conditions.items()
            if wanted != "true"
        ]
        for action, key, resource in product(
            statement["Action"], keys, listed(statement["Resource"])
        ):
            service = action.partition(":")[0]
            kind = (
                resource.rpartition("/")[0]
                .rpartition(":")[2]
                .replace("autoScalingGroupName", "autoscalinggroup")
            )
            shape = f"{key.partition('/')[0]}/${{TagKey}}" if "/" in key else key
            has = REFERENCE[service]["Resources"].get(kind, {}).get("ConditionKeys", [])
            if key not in GLOBAL and kind in map(str.lower, kinds_of(action)) and shape not in has:
                odd.append(f"{action} on {kind}: {key}")
    assert odd == []


GROUP_ACTIONS = (
    "autoscaling:CompleteLifecycleAction",
    "autoscaling:RecordLifecycleActionHeartbeat",
    "autoscaling:SetInstanceHealth",
    "autoscaling:SetInstanceProtection",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
)


@pytest.mark.parametrize("action", GROUP_ACTIONS)
def test_a_machine_changes_groups_of_its_own_cluster_alone(action: str) -> None:
    group = THEIRS["group"][0]

    def may(its: str, tag: str, role: str = "Machine") -> bool:
        policies = [document(name) for name in ROLES[role]]
        said = {
            "aws:ResourceTag/goldenami:cluster": tag,
            "ec2:SourceInstanceARN": _ec2("instance", "i-0mine"),
        }
        own = {"aws:PrincipalTag/goldenami:cluster": its} if its else {}
        return allows(policies, BOUNDARY, Asked(action, group, {**said, **own}))

    assert may("ml", "ml")
    assert not may("ml", "theirs") and not may("ml", "m*") and not may("m*", "ml")
    for role in ("Machine", "Hub"):
        assert not may("", "ml", role), "a role without the tag is of no cluster"
        assert tags.CLUSTER not in str(RAW[role]["Properties"].get("Tags"))


@pytest.mark.parametrize("role", ["Machine", "Hub"])
def test_a_machine_tags_itself_alone(role: str) -> None:
    policies = [document(name) for name in ROLES[role]]

    def may(instance: str, **said: Any) -> bool:
        context = {
            "ec2:InstanceID": instance,
            "aws:TagKeys": ["goldenami:health"],
            "ec2:SourceInstanceARN": _ec2("instance", "i-0mine"),
            **said,
        }
        return allows(
            policies, BOUNDARY, Asked("ec2:CreateTags", _ec2("instance", instance), context)
        )

    assert may("i-0mine")
    assert not may("i-0") and not may("i-0mine2")
    assert not may("i-0mine", **{"aws:TagKeys": ["goldenami:health", "goldenami:cluster"]})
    assert not may("i-0mine", **{"ec2:SourceInstanceARN": _ec2("instance", "i-0other")})


def test_a_machine_tells_the_topic_of_machines_alone() -> None:
    policies = [document(policy) for policy in ROLES["Machine"]]
    told = [
        topic
        for topic in ("golden-idle", "golden-ami", "theirs")
        if allows(
            policies, BOUNDARY, Asked("sns:Publish", f"arn:aws:sns:us-east-1:{ACCOUNT}:{topic}")
        )
    ]
    assert told == ["golden-idle"]


LAUNCHERS = ("Builder", "Hub", "GitHubTester", "GitLabTester")


@pytest.mark.parametrize("role", LAUNCHERS)
def test_a_launch_takes_new_interfaces_and_groups_of_ours(role: str) -> None:
    policies = [document(policy) for policy in ROLES[role]]
    ours = {
        f"aws:ResourceTag/goldenami:{'hub' if role == 'Hub' else 'expires'}": "x",
        "aws:PrincipalTag/goldenami:hub": "x",
    }

    def may(kind: str, name: str, said: Mapping[str, Any]) -> bool:
        template = {"ec2:LaunchTemplate": _ec2("launch-template", "lt-0a")}
        return allows(
            policies, BOUNDARY, Asked("ec2:RunInstances", _ec2(kind, name), {**template, **said})
        )

    assert may("network-interface", "*", {})
    assert not may("network-interface", "eni-0a", {"ec2:NetworkInterfaceID": "eni-0a", **OTHERS})
    assert may("security-group", "sg-0a", ours)
    assert not may("security-group", "sg-0a", {"ec2:SecurityGroupID": "sg-0a", **OTHERS})


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("ec2:TerminateInstances", "instance"),
        ("ec2:AttachVolume", "volume"),
        ("ec2:AttachVolume", "instance"),
        ("ec2:DeleteVolume", "volume"),
        ("ec2:DeleteTags", "volume"),
        ("ec2:RunInstances", "security-group"),
    ],
)
def test_a_hub_reaches_no_other_hub_s(action: str, kind: str) -> None:
    policies = [document(policy) for policy in ROLES["Hub"]]
    [mine] = [tag["Value"] for tag in RAW["Hub"]["Properties"]["Tags"]]

    def may(hub: str) -> bool:
        said = {
            "aws:ResourceTag/goldenami:hub": hub,
            "aws:ResourceTag/goldenami:new": "yes",
            "aws:TagKeys": ["goldenami:new"],
            "aws:PrincipalTag/goldenami:hub": mine,
        }
        return allows(policies, BOUNDARY, Asked(action, _ec2(kind, IDS[kind][0]), said))

    assert may(mine) and not may("physics")


def test_gpu_records_are_the_testers_alone() -> None:
    record = f"{PARAMETERS}/golden-ami/debian-13-ml/0123456789ab/gpu-test"
    writers = {
        name
        for name, policies in ROLES.items()
        if allows(
            [document(policy) for policy in policies], BOUNDARY, Asked("ssm:PutParameter", record)
        )
    }
    assert writers == {"GitHubTester", "GitLabTester"}


SECRET = {"kms:ViaService": "ssm.us-east-1.amazonaws.com"}


@pytest.mark.parametrize("name", sorted(ROLES))
def test_no_role_decrypts_a_secure_parameter_but_a_webhook(name: str) -> None:
    """Also where a policy that is attached later allows it."""
    policies = [
        *map(document, ROLES[name]),
        {"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]},
    ]
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/aws-ssm"

    def decrypts(path: str) -> bool:
        of = {"kms:EncryptionContext:PARAMETER_ARN": f"{PARAMETERS}/{path}"}
        return allows(policies, BOUNDARY, Asked("kms:Decrypt", key, {**SECRET, **of}))

    read = list(filter(decrypts, ("golden-idle/webhook", "theirs/db", "golden-ami/x")))
    reads_all = "KeepPolicy" in ROLES[name]
    assert read == ([] if reads_all else ["golden-idle/webhook"])


def test_the_builder_reaches_neither_the_site_nor_what_it_did_not_launch() -> None:
    policies = [document(policy) for policy in ROLES["Builder"]]
    bucket = "arn:aws:s3:::golden-ami-bucket"
    assert allows(policies, BOUNDARY, Asked("s3:PutObject", f"{bucket}/store/ab/abc"))
    assert not allows(policies, BOUNDARY, Asked("s3:PutObject", f"{bucket}/site/index.html"))
    tags = [
        {"aws:ResourceTag/goldenami:image": "x"},
        {"aws:ResourceTag/goldenami:cluster": "x"},
        {"aws:ResourceTag/goldenami:expires": "x"},
    ]
    ends = [
        allows(policies, BOUNDARY, Asked("ec2:TerminateInstances", _ec2("instance", "i-0"), each))
        for each in tags
    ]
    assert ends == [False, False, True]
    moved = (
        "ec2:ModifyLaunchTemplate",
        "ec2:DisableImage",
        "ec2:DeregisterImage",
        "ssm:PutParameter",
    )
    assert not [
        action
        for action in moved
        if allows(
            policies,
            BOUNDARY,
            Asked(action, _ec2("image", "ami-0"), {"aws:ResourceTag/goldenami:image": "x"}),
        )
    ]


OF_WHAT_IS_OLD = {
    "CreateImage": "Packer's own call",
    "CreateSnapshot": "of a machine's volume",
    "DescribeInstanceAttribute": "of a machine",
    "GetSnapshotBlock": "a snapshot that took minutes",
    "ListChangedBlocks": "a snapshot that took minutes",
    "ListSnapshotBlocks": "a snapshot that took minutes",
    "ModifyInstanceAttribute": "Packer's own call",
    "RollbackInstanceRefresh": "of a group",
    "StartInstanceRefresh": "of a group",
    "StartSnapshot": "of a parent",
}


def test_what_a_policy_grants_by_tag_is_asked_again() -> None:
    """IAM may not see the tags of what was just made, also where a failure removes it at once."""
    rows = [
        row
        for command in ("publish", "promote", "rollback", "gpu-test", "bake-ec2", "drift")
        for row in json.loads((POLICIES / f"{command}.json").read_text(encoding="utf-8"))[
            "Statement"
        ]
    ]
    by_tag = {
        action.partition(":")[2]
        for row in rows
        for action in row["Action"]
        if "aws:ResourceTag/goldenami" in json.dumps(row.get("Condition", {}))
    }
    final = {name for name in by_tag if refusals.find(name, "UnauthorizedOperation") is None}
    assert len(by_tag) > 25
    assert final == OF_WHAT_IS_OLD.keys()
