"""The preflight: what would stop a first evening in an account, named, and nothing invented."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from goldenami.aws import session
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput
from goldenami.model.operation.residency import AllowedRegions
from goldenami_fleet.selftest import preflight, preflight_rights
from goldenami_fleet.selftest.preflight_findings import AccountFact, Subject, ask
from support.aws.emulator import Emulator
from support.builds.tools import granted

EAST, WEST = "us-east-1", "us-west-2"
TYPES = ("t3.small", "g5.xlarge")
COMPANY = Account(AllowedRegions(rules=()), tags={"CostCenter": "7"})
READS = (
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:GetAllowedImagesSettings",
    "ec2:GetImageBlockPublicAccessState",
    "ec2:GetInstanceMetadataDefaults",
    "ec2:GetSnapshotBlockPublicAccessState",
    "iam:GetRole",
    "iam:SimulatePrincipalPolicy",
    "organizations:DescribeEffectivePolicy",
    "servicequotas:GetServiceQuota",
)
"""What the preflight reads and no command does."""


class Evening:
    """An account in which a first evening would go well, until something is planted in it."""

    def __init__(self, aws: Emulator) -> None:
        self.aws, self.hides_debian = aws, set[str]()
        boto3.client("iam").create_service_linked_role(AWSServiceName="autoscaling.amazonaws.com")

    def west(self, service: str = "ec2") -> Any:
        return boto3.client(service, WEST)

    def deny(self, *actions: str) -> None:
        self.aws.set(denied={"*": actions})

    def look(self, regions: Iterable[str] = (EAST, WEST)) -> list[AccountFact]:
        newest = {"ImageId": "ami-0123456789abcdef0", "CreationDate": "2026-11-01T00:00:00.000Z"}
        asked = {"Owner.1": preflight_rights.DEBIAN[0]}
        for region in {EAST, WEST} - self.hides_debian:
            self.aws.answer("ec2:DescribeImages", region, asked, Images=[newest])
        return preflight.look(COMPANY, list(regions), TYPES)

    def wrong(self) -> dict[tuple[str, str], AccountFact]:
        """What does not fit, by its region and subject."""
        return {(each.region, each.subject): each for each in self.look() if each.state != "fits"}


@pytest.fixture
def evening(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Evening:
    # Neither clients nor what they are told of regions outlive a test.
    monkeypatch.setattr(f"{__name__}.COMPANY", Account(COMPANY.allowed, COMPANY.tags))
    return Evening(aws)


def things(region: str) -> list[Any]:
    """What the preflight could have made or changed."""
    ec2, kms = boto3.client("ec2", region), boto3.client("kms", region)
    return [
        ec2.describe_security_groups()["SecurityGroups"],
        ec2.describe_key_pairs()["KeyPairs"],
        ec2.describe_launch_templates()["LaunchTemplates"],
        ec2.describe_images(Owners=["self"])["Images"],
        ec2.describe_instances()["Reservations"],
        kms.list_keys()["Keys"],
        [role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]],
    ]


def test_a_healthy_account_is_not_blamed_and_is_the_same_afterwards(evening: Evening) -> None:
    for region in (EAST, WEST):
        boto3.client("ec2", region).enable_ebs_encryption_by_default()
    before = [things(region) for region in (EAST, WEST)]
    found = evening.look()
    assert [things(region) for region in (EAST, WEST)] == before
    assert {each.state for each in found} == {"fits"} and len(found) > 20
    made = "CreateSecurityGroup, ImportKeyPair, CreateLaunchTemplate, RegisterImage, CopyImage"
    assert f"EC2 grants {made}, RunInstances" in {each.text for each in found}
    said = list(preflight.lines(found))
    assert [line.partition(":")[0] for line in said] == ["the account", EAST, WEST]


def test_a_role_of_exactly_the_policies_is_not_blamed(evening: Evening) -> None:
    rights = [action for policy in preflight_rights.POLICIES for action in granted(policy)]
    evening.aws.set(allowed={"*": [*rights, *READS]})
    assert evening.wrong() == {}


def without_subnets(evening: Evening) -> None:
    for subnet in evening.west().describe_subnets()["Subnets"]:
        evening.west().delete_subnet(SubnetId=subnet["SubnetId"])


def private_only(evening: Evening) -> None:
    for subnet in evening.west().describe_subnets()["Subnets"]:
        evening.west().modify_subnet_attribute(
            SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": False}
        )


def no_route(evening: Evening) -> None:
    [table] = evening.west().describe_route_tables()["RouteTables"]
    evening.west().delete_route(
        RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0"
    )


def full(evening: Evening) -> None:
    subnets = evening.west().describe_subnets()["Subnets"]
    evening.aws.answer(
        "ec2:DescribeSubnets",
        WEST,
        Subnets=[{**each, "AvailableIpAddressCount": 0} for each in subnets],
    )


def default_key(evening: Evening) -> str:
    key = str(evening.west("kms").create_key()["KeyMetadata"]["KeyId"])
    evening.west().enable_ebs_encryption_by_default()
    evening.west().modify_ebs_default_kms_key_id(KmsKeyId=key)
    return key


def key_disabled(evening: Evening) -> None:
    evening.west("kms").disable_key(KeyId=default_key(evening))


def key_pending_deletion(evening: Evening) -> None:
    evening.west("kms").schedule_key_deletion(KeyId=default_key(evening))


def quota(code: str, value: float) -> Callable[[Evening], None]:
    def plant(evening: Evening) -> None:
        evening.aws.answer(
            "service-quotas:GetServiceQuota", WEST, {"QuotaCode": code}, Quota={"Value": value}
        )

    return plant


def allowed_images(evening: Evening) -> None:
    evening.hides_debian.add(WEST)
    evening.aws.answer("ec2:GetAllowedImagesSettings", WEST, State="enabled")


def metadata_off(evening: Evening) -> None:
    evening.aws.answer(
        "ec2:GetInstanceMetadataDefaults", WEST, AccountLevel={"HttpEndpoint": "disabled"}
    )


def tag_policy(evening: Evening) -> None:
    rule = {"tag_key": "CostCenter", "tag_value": ["8*"], "enforced_for": ["ec2:instance"]}
    content = json.dumps({"tags": {"costcenter": rule}})
    evening.aws.answer(
        "organizations:DescribeEffectivePolicy", EffectivePolicy={"PolicyContent": content}
    )


SPOT = "AWSServiceRoleForEC2Spot"
STOPS: dict[str, tuple[Callable[[Evening], None], list[tuple[str, str]], str]] = {
    "no default VPC": (
        lambda evening: evening.aws.set(has_default_vpc=False),
        [(EAST, "default network"), (WEST, "default network")],
        "aws ec2 create-default-vpc --region us-",
    ),
    "no subnets": (without_subnets, [(WEST, "default network")], "create-default-subnet"),
    "private subnets": (private_only, [(WEST, "default network")], "--map-public-ip-on-launch"),
    "no route": (no_route, [(WEST, "default network")], "aws ec2 create-route"),
    "no free address": (full, [(WEST, "default network")], "publish: subnets:"),
    "key disabled": (key_disabled, [(WEST, "encryption")], "aws kms enable-key"),
    "key to be deleted": (key_pending_deletion, [(WEST, "encryption")], "cancel-key-deletion"),
    "region off": (
        lambda evening: evening.aws.set(disabled_regions=[WEST]),
        [(WEST, "credentials")],
        "aws account enable-region --region-name us-west-2",
    ),
    "no Spot role": (
        lambda evening: evening.deny("iam:CreateServiceLinkedRole"),
        [("", SPOT)],
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "no quota on Spot": (
        quota("L-3819A6DF", 0.0),
        [(WEST, "vCPUs of G and VT on Spot")],
        "--quota-code L-3819A6DF --desired-value 4",
    ),
    "quota too small": (
        quota("L-1216C47A", 1.0),
        [(WEST, "vCPUs of standard on demand")],
        "--quota-code L-1216C47A --desired-value 2",
    ),
    "allowed AMIs": (allowed_images, [(WEST, "allowed AMIs")], "ImageProviders=136693071363"),
    "metadata off": (metadata_off, [(WEST, "metadata service")], "--http-endpoint enabled"),
    "tag policy": (tag_policy, [("", "tag policy")], "publish: tags:"),
    "a right denied": (
        lambda evening: evening.deny("ec2:RegisterImage"),
        [("", "right to ec2:RegisterImage")],
        "policies/publish.json",
    ),
}
"""What is planted, what it stops, and a part of a line that mends it."""


@pytest.mark.parametrize("planted", STOPS)
def test_an_obstacle_is_named_with_what_mends_it_and_no_other(
    planted: str, evening: Evening
) -> None:
    plant, stopped, mend = STOPS[planted]
    plant(evening)
    found = evening.wrong()
    assert list(found) == stopped
    assert all(each.state == "stops" and each.stops and each.mend for each in found.values())
    assert any(mend in each.mend for each in found.values())


def hangs(*calls: str) -> Callable[[Evening], None]:
    def plant(evening: Evening) -> None:
        evening.aws.late({"mode": "hanging", "calls": calls, "regions": [WEST], "seconds": 600})

    return plant


UNKNOWN: dict[str, tuple[Callable[[Evening], None], list[tuple[str, str]], str]] = {
    "no reads of IAM": (
        lambda evening: evening.deny("iam:GetRole", "iam:SimulatePrincipalPolicy"),
        [("", "rights"), ("", SPOT), ("", "AWSServiceRoleForAutoScaling")],
        "golden account apply",
    ),
    "no reads of the organization": (
        lambda evening: evening.deny("organizations:*"),
        [("", "tag policy")],
        "organizations:DescribeEffectivePolicy",
    ),
    "no reads of quotas": (
        lambda evening: evening.deny("servicequotas:*"),
        [(EAST, "types and quotas"), (WEST, "types and quotas")],
        "servicequotas:GetServiceQuota",
    ),
    "a region that hangs": (hangs("*"), [(WEST, "credentials")], "ask it again later"),
    "an EC2 that hangs": (hangs("ec2:*"), [(WEST, "encryption")], "ask it again later"),
}
"""What is planted, what cannot be known then, and a part of a line that helps."""


@pytest.mark.parametrize("planted", UNKNOWN)
def test_what_cannot_be_read_is_unknown(
    planted: str, evening: Evening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SILENCE_S", 3.0)
    plant, unknown, mend = UNKNOWN[planted]
    plant(evening)
    found = evening.wrong()
    evening.aws.late()
    assert list(found) == unknown
    assert all(each.state == "unknown" and each.text for each in found.values())
    assert any(mend in each.mend for each in found.values())


def test_credentials_that_no_region_knows_are_all_that_is_said(evening: Evening) -> None:
    evening.aws.set(disabled_regions=[EAST, WEST])
    found = evening.look()
    assert {each.subject for each in found} == {"credentials"}
    assert "aws sso login" in found[0].mend


def test_each_action_of_a_policy_is_named_if_it_is_missing(evening: Evening) -> None:
    """Any two actions are told apart by one of the halves that are denied."""
    actions = sorted({each for policy in preflight_rights.POLICIES for each in granted(policy)})
    assert len(actions) > 60
    caller = str(boto3.client("sts").get_caller_identity()["Arn"])

    def by_iam(account: Account, subject: Subject) -> Iterable[AccountFact]:
        return preflight_rights.by_iam(account, subject, caller)

    for bit in range(len(actions).bit_length()):
        denied = [action for number, action in enumerate(actions, 1) if number >> bit & 1]
        evening.deny(*denied)
        found = list(ask(COMPANY, {Subject("", "rights"): by_iam}))
        assert [each.subject for each in found] == [f"right to {action}" for action in denied]
        assert all("of scripts/goldenami/aws/policies/" in each.mend for each in found)


@pytest.mark.parametrize(
    ("action", "is_decided"),
    [
        ("ec2:CreateSecurityGroup", True),
        ("ec2:ImportKeyPair", True),
        ("ec2:CreateLaunchTemplate", True),
        # EC2's refusal may be for a tag that is not there on a first evening.
        ("ec2:RunInstances", False),
    ],
)
def test_a_dry_run_names_what_may_not_be_made(
    action: str, *, is_decided: bool, evening: Evening
) -> None:
    rights = [each for policy in preflight_rights.POLICIES for each in granted(policy)]
    rest = [
        each for each in (*rights, *READS) if each not in (action, "iam:SimulatePrincipalPolicy")
    ]
    evening.aws.set(allowed={"*": rest})
    named = {("", "rights"), ("", SPOT)}
    if is_decided:
        named |= {(region, f"right to {action}") for region in (EAST, WEST)}
    assert evening.wrong().keys() == named
    asked = [call for call, _ in evening.aws.calls() if call == action]
    assert len(asked) == 2, "it is asked once a region"


def test_the_organizations_refusal_is_told_from_a_missing_right(evening: Evening) -> None:
    evening.deny("iam:SimulatePrincipalPolicy", "ec2:RunInstances")
    found = evening.wrong()[WEST, "right to ec2:RunInstances"]
    assert found.text.endswith(": an explicit deny in an identity-based policy")
    assert "exception" in found.mend


def test_a_role_that_is_there_need_not_be_made(evening: Evening) -> None:
    boto3.client("iam").create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    evening.deny("iam:CreateServiceLinkedRole")
    assert evening.wrong() == {}


def test_types_are_named_that_a_region_lacks_or_whose_quota_nobody_knows(evening: Evening) -> None:
    found = preflight.look(COMPANY, [EAST], ["t3.small", "g99.xlarge", "inf1.xlarge"])
    said = {each.text for each in found if each.subject == "types and quotas"}
    assert said == {
        "t3.small",
        "inf1.xlarge",
        "there is no g99.xlarge",
        "which quota inf1.xlarge has",
    }


def test_a_region_that_does_not_exist_is_bad_input(evening: Evening) -> None:
    with pytest.raises(BadInput, match="us-wets-2"):
        evening.look(["us-wets-2"])
    bound = Account(AllowedRegions(rules=(("packer/residency.yml", ("eu-*",)),)))
    with pytest.raises(BadInput, match="is not allowed"):
        preflight.look(bound, [EAST], TYPES)


def test_ec2_does_nothing_in_a_dry_run(evening: Evening) -> None:
    asked = {"LaunchTemplateName": "t", "LaunchTemplateData": {}, "DryRun": True}
    with pytest.raises(ClientError, match="DryRunOperation"):
        evening.west().create_launch_template(**asked)
    evening.deny("ec2:CreateLaunchTemplate")
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        evening.west().create_launch_template(**asked)
    assert evening.west().describe_launch_templates()["LaunchTemplates"] == []
