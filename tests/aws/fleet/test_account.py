"""`golden account`: the stack is made in each region, changed, and taken away; what holds data
stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import boto3
import pytest
from goldenami.aws.channels.lease import TABLE, read_lease, take_lease
from goldenami.aws.services import stacks
from goldenami.core import clock
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import Busy
from goldenami.core.terminal.progress import Progress
from goldenami_fleet.account import account_plan
from support import trees
from support.aws import unbound
from support.aws.emulator import Emulator
from support.builds.builds import Checkout

HOME, OTHER = "us-east-1", "eu-west-1"
REGIONS = ("--region", HOME, "--region", OTHER)
SUMMARIES = "StackResourceSummaries"
GITHUB = ("--set", "GitHubRepository=acme/images")
GITLAB = ("--set", "GitLabProject=acme/infra/images")


def golden(checkout: Checkout, *args: str, code: int = 0) -> str:
    ran = checkout.golden("account", *args)
    assert ran.code == code, ran.text
    return ran.text


def trust(role: str) -> Mapping[str, Any]:
    """The trust policy of a role of the account."""
    document: Any = boto3.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    statement: Mapping[str, Any] = (
        json.loads(document) if isinstance(document, str) else document
    )["Statement"][0]
    return statement


def lets_in(statement: Mapping[str, Any], issuer: str, claims: Mapping[str, str]) -> bool:
    """Whether a trust policy lets in who brings a token of `issuer` with these claims, as STS
    decides it."""
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRoleWithWebIdentity")
    assert statement["Condition"].keys() == {"StringEquals"}
    provider = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
    wanted = statement["Condition"]["StringEquals"].items()
    return provider == issuer and all(
        claims.get(key.removeprefix(f"{issuer}:")) == value for key, value in wanted
    )


def exists(region: str) -> bool:
    return stacks.find(boto3.client("cloudformation", region), "golden-ami") is not None


def tables(region: str) -> list[str]:
    return list(boto3.client("dynamodb", region).list_tables()["TableNames"])


def buckets() -> list[str]:
    return [bucket["Name"] for bucket in boto3.client("s3", HOME).list_buckets()["Buckets"]]


def unexecuted(region: str) -> list[str]:
    """Change sets that wait to be executed."""
    listed = boto3.client("cloudformation", region).list_change_sets(StackName="golden-ami")[
        "Summaries"
    ]
    return [row["ChangeSetName"] for row in listed if row["ExecutionStatus"] == "AVAILABLE"]


# --- made, changed, taken away ---


def test_an_account_is_set_up_and_taken_down(checkout: Checkout) -> None:
    said = golden(checkout, "plan", *REGIONS, *GITHUB)
    assert f"{OTHER}: a new stack golden-ami\n  add    AWS::DynamoDB::Table       Leases\n" in said
    assert "GitLabPublisher" not in said
    assert said.endswith(f"next: scripts/golden account apply {' '.join([*REGIONS, *GITHUB])}\n")
    assert not exists(HOME) and not tables(HOME)  # a plan leaves nothing

    said = golden(checkout, "apply", *REGIONS, *GITHUB)
    assert "CREATE_COMPLETE" in said
    assert said.endswith("next: scripts/golden release debian-13-immutable\n")
    assert (
        "GOLDEN_PUBLISH_ROLE of GitHub = arn:aws:iam::123456789012:role/golden-ami-github" in said
    )
    assert f"GOLDEN_STORE_S3 = s3://{buckets()[0]}/store" in said
    assert tables(HOME) == tables(OTHER) == [TABLE]
    made = boto3.client("cloudformation", OTHER).list_stack_resources(StackName="golden-ami")
    assert {row["LogicalResourceId"]: row["PhysicalResourceId"] for row in made[SUMMARIES]} == {
        "Leases": TABLE,
        "Topic": f"arn:aws:sns:{OTHER}:123456789012:golden-ami",
        "IdleAlone": "golden-ami-idle",
    }
    assert read_lease(unbound.account().dynamodb(OTHER), "any").fence == 0
    assert golden(checkout, "plan", *REGIONS).count("nothing to do") == 2

    said = golden(checkout, "apply", *REGIONS, *GITLAB)
    assert "add    AWS::IAM::Role             GitLabPublisher" in said and "UPDATE_COMPLETE" in said
    assert "role/golden-ami-gitlab" in said and "role/golden-ami-github" in said
    assert unexecuted(HOME) == unexecuted(OTHER) == [], (
        "a parameter changed that only the stack of home uses"
    )

    assert "the stack golden-ami goes" in golden(checkout, "remove", "--dry-run")
    assert exists(HOME)
    golden(checkout, "remove")
    assert (
        not any(map(exists, (HOME, OTHER))) and not tables(HOME) + tables(OTHER) and not buckets()
    )
    iam = boto3.client("iam")
    assert iam.list_roles()["Roles"] == iam.list_policies(Scope="Local")["Policies"] == []
    assert "there is no stack golden-ami" in golden(checkout, "remove", *REGIONS, code=2)


def test_a_stack_has_the_tags_that_every_image_demands(checkout: Checkout) -> None:
    """Those of one image alone are not the account's, and `R&D` is none that IAM takes."""
    for number, path in enumerate(trees.scanned(6, checkout.root, "packer/images/*.yml")):
        text = path.read_text(encoding="utf-8")
        demanded = f"publish:\n  tags: {{CostCenter: '42', unit: R&D, image: '{number}'}}\n"
        path.write_text(text.replace("publish:\n", demanded), encoding="utf-8")
    golden(checkout, "apply", "--region", HOME, *GITHUB)
    stack = boto3.client("cloudformation", HOME).describe_stacks(StackName="golden-ami")
    assert stack["Stacks"][0]["Tags"] == [{"Key": "CostCenter", "Value": "42"}]


def test_a_budget_of_the_account_is_made_unless_it_is_spent_already(
    checkout: Checkout, aws: Emulator
) -> None:
    """By what all linked accounts were billed this month, with credits."""
    aws.answer(
        "ce:GetCostAndUsage",
        asked={
            "Metrics": ["AmortizedCost"],
            "TimePeriod": {
                "Start": str(clock.now().date().replace(day=1)),
                "End": str(clock.now().date() + timedelta(days=1)),
            },
        },
        ResultsByTime=[
            {
                "TimePeriod": {"Start": str(clock.now().date()), "End": "x"},
                "Groups": [
                    {"Keys": [name], "Metrics": {"AmortizedCost": {"Amount": usd, "Unit": "USD"}}}
                    for name, usd in (("EC2", "620.5"), ("Support", "100"), ("Credits", "-20"))
                ],
            }
        ],
    )
    asked = ("apply", *REGIONS, *GITHUB, "--set", "Email=me@example.org", "--set")
    said = golden(checkout, *asked, "MonthlyBudget=700", code=2)
    assert "MonthlyBudget=700 is less than the $700.50 of this month so far" in said
    assert not exists(HOME)
    said = golden(checkout, *asked, "MonthlyBudget=701")
    assert "add    AWS::Budgets::Budget       Budget\n" in said
    said = golden(checkout, "apply", *REGIONS, "--set", "MonthlyBudget=0")
    assert "remove AWS::Budgets::Budget       Budget\n" in said
    assert "MonthlyBudget" in golden(checkout, *asked, "MonthlyBudget=00", code=2)
    # A new account, of which Cost Explorer has no data.
    aws.set(answers=[])
    said = golden(checkout, "apply", *REGIONS, "--set", "MonthlyBudget=5")
    assert "add    AWS::Budgets::Budget       Budget\n" in said


def test_what_holds_data_stays_and_is_taken_up_again(checkout: Checkout) -> None:
    # A publish that came before made the table.
    take_lease(unbound.account().dynamodb(HOME), "debian-13-ml")
    assert "import AWS::DynamoDB::Table" in golden(checkout, "apply", *REGIONS, *GITHUB)
    [bucket] = buckets()
    boto3.client("s3", HOME).put_object(Bucket=bucket, Key="store/ab/abc", Body=b"a package")
    said = golden(checkout, "remove", *REGIONS)
    assert f"{HOME}: the table golden-ami stays: it has the ledgers of images" in said
    assert f"{HOME}: the bucket {bucket} stays: it is not empty" in said
    assert not exists(HOME) and not tables(OTHER)
    assert buckets() == [bucket]
    assert read_lease(unbound.account().dynamodb(HOME), "debian-13-ml").fence == 1
    said = golden(checkout, "apply", *REGIONS, *GITHUB)
    assert "import AWS::DynamoDB::Table" in said and f"BucketName = {bucket}" in said
    assert "import AWS::S3::Bucket" in said and f"GOLDEN_STORE_S3 = s3://{bucket}/store" in said
    assert buckets() == [bucket], "the kept one is taken up, with its packages"


def test_the_bucket_of_users_is_made_where_asked_and_stays_with_its_files(
    checkout: Checkout,
) -> None:
    iam, s3 = boto3.client("iam"), boto3.client("s3", HOME)

    def policies() -> dict[str, str]:
        listed = iam.list_policies(Scope="Local")["Policies"]
        return {policy["PolicyName"]: policy["Arn"] for policy in listed}

    said = golden(checkout, "plan", "--region", HOME, *GITHUB)
    assert "UsersBucket" not in said and "MachineKeepPolicy" not in said
    keep = ("--set", "KeepBucket=acme-keep", "--set", "Team=vision")
    said = golden(checkout, "apply", "--region", HOME, *GITHUB, *keep)
    assert "add    AWS::S3::Bucket            UsersBucket" in said
    assert "KeepBucket = acme-keep" in said and "Team = vision" in said
    assert "golden_idle_keep of images = s3://acme-keep/vision" in said
    version = iam.get_policy_version(
        PolicyArn=policies()["golden-ami-instance-keep"], VersionId="v1"
    )
    document = json.dumps(version["PolicyVersion"]["Document"])
    assert '"arn:aws:s3:::acme-keep/${aws:PrincipalTag/goldenami:team}/*"' in document
    tagged = iam.list_role_tags(RoleName="golden-ami-instance")["Tags"]
    assert tagged == [{"Key": "goldenami:team", "Value": "vision"}]
    s3.put_object(Bucket="acme-keep", Key="vision/ann/model.pt", Body=b"weights")
    said = golden(checkout, "remove", "--region", HOME)
    assert f"{HOME}: the bucket acme-keep stays: it is not empty" in said
    assert buckets() == ["acme-keep"]
    said = golden(checkout, "apply", "--region", HOME, *GITHUB, *keep)
    assert "import AWS::S3::Bucket" in said
    assert s3.list_objects_v2(Bucket="acme-keep")["KeyCount"] == 1


def test_several_buckets_that_were_kept_are_asked_for(checkout: Checkout) -> None:
    s3 = boto3.client("s3", HOME)
    for name in ("golden-ami-bucket-1a", "golden-ami-bucket-2b", "golden-ami-buckets"):
        s3.create_bucket(Bucket=name)
    said = golden(checkout, "plan", "--region", HOME, *GITHUB, code=2)
    assert (
        "left the buckets golden-ami-bucket-1a, golden-ami-bucket-2b" in said
        and "--set BucketName=NAME" in said
    )
    said = golden(
        checkout, "apply", "--region", HOME, *GITHUB, "--set", "BucketName=golden-ami-bucket-2b"
    )
    assert "s3://golden-ami-bucket-2b/store" in said and len(buckets()) == 3
    golden(checkout, "remove", "--region", HOME)
    said = golden(checkout, "plan", "--region", HOME, *GITHUB, "--set", "BucketName=")
    assert "add    AWS::S3::Bucket " in said


# --- somebody else at the same time ---


def test_a_removal_leaves_what_was_changed_after_its_look(checkout: Checkout) -> None:
    account = unbound.account()
    progress = Progress.of("account", "apply", CachePaths(checkout.root / "cache"))
    plan = account_plan.prepare(account, [HOME], {account_plan.GITHUB: "acme/images"})
    early = account_plan.prepare_removal(account, [HOME], HOME)
    account_plan.execute(account, plan, progress)
    with pytest.raises(Busy, match="was REVIEW_IN_PROGRESS and is CREATE_COMPLETE"):
        account_plan.remove(account, early, progress)
    assert exists(HOME) and tables(HOME) == [TABLE]
    golden(checkout, "apply", *REGIONS, *GITHUB)
    removal = account_plan.prepare_removal(account, [HOME, OTHER], HOME)
    assert removal.tables == {HOME: True, OTHER: True}
    take_lease(account.dynamodb(OTHER), "debian-13-ml")
    boto3.client("s3", HOME).put_object(Bucket=buckets()[0], Key="store/ab/abc", Body=b"a package")
    account_plan.remove(account, removal, progress)
    assert (tables(OTHER), tables(HOME), len(buckets())) == ([TABLE], [], 1)


def test_a_provider_that_is_there_is_used(checkout: Checkout) -> None:
    boto3.client("iam").create_open_id_connect_provider(
        Url="https://token.actions.githubusercontent.com", ClientIDList=["sts.amazonaws.com"]
    )
    said = golden(checkout, "plan", "--region", HOME, *GITHUB, *GITLAB)
    assert (
        "GitHubProvider = existing" in said
        and "GitHubTokens" not in said
        and "GitLabTokens" in said
    )


def test_another_partition(checkout: Checkout) -> None:
    golden(checkout, "apply", "--region", "us-gov-west-1", *GITHUB)
    template = boto3.client("cloudformation", "us-gov-west-1").get_template(StackName="golden-ami")[
        "TemplateBody"
    ]
    assert "arn:aws-us-gov:ec2:*:*:launch-template/*" in str(template) and "arn:aws:" not in str(
        template
    )
    golden(checkout, "remove", "--region", "us-gov-west-1")


# --- who is let in ---

HUB, LAB = "token.actions.githubusercontent.com", "gitlab.example.org"
_HUB = {
    "aud": "sts.amazonaws.com",
    "sub": "repo:acme/images:environment:publish",
    "ref": "refs/heads/main",
}
_LAB = {
    "aud": "sts.amazonaws.com",
    "sub": "project_path:acme/infra/images:ref_type:branch:ref:main:environment_protected:true",
}
CALLERS = [
    ("github", HUB, {}, True),
    ("github", HUB, {"sub": "repo:acme/other:environment:publish"}, False),
    ("github", HUB, {"sub": "repo:evil/images:environment:publish"}, False),
    ("github", HUB, {"sub": "repo:acme/images:pull_request", "ref": "refs/pull/1/merge"}, False),
    # Without the environment.
    ("github", HUB, {"sub": "repo:acme/images:ref:refs/heads/main"}, False),
    ("github", HUB, {"sub": "repo:acme/images:environment:watch"}, False),
    ("github", HUB, {"ref": "refs/heads/feature"}, False),
    ("github", HUB, {"ref": "refs/tags/main"}, False),
    ("github", HUB, {"aud": "https://github.com/acme"}, False),
    ("github", LAB, {}, False),
    ("gitlab", LAB, {}, True),
    # Any other job of the branch.
    ("gitlab", LAB, {"sub": _LAB["sub"].removesuffix(":environment_protected:true")}, False),
    ("gitlab", LAB, {"sub": _LAB["sub"].replace("true", "false")}, False),
    ("gitlab", LAB, {"sub": _LAB["sub"].replace("main", "feature")}, False),
    ("gitlab", LAB, {"sub": _LAB["sub"].replace("branch", "tag")}, False),
    ("gitlab", LAB, {"sub": _LAB["sub"].replace("images", "images-fork")}, False),
    ("gitlab", LAB, {"aud": "https://gitlab.example.org"}, False),
    ("gitlab", "gitlab.com", {}, False),
    ("gitlab", HUB, {}, False),
]


def test_whose_tokens_are_let_in(checkout: Checkout) -> None:
    """And that every role, also those of machines, is within the boundary."""
    golden(checkout, "apply", "--region", HOME, *GITHUB, *GITLAB, "--set", f"GitLabHost={LAB}")
    statements = {"github": trust("golden-ami-github"), "gitlab": trust("golden-ami-gitlab")}
    defaults = {"github": _HUB, "gitlab": _LAB}
    for role, issuer, changed, right in CALLERS:
        let = lets_in(statements[role], issuer, {**defaults[role], **changed})
        assert let is right, (role, issuer, changed)
    iam = boto3.client("iam")
    roles = [role["RoleName"] for role in iam.list_roles()["Roles"]]
    assert len(roles) == 7
    for role in roles:
        bounded = iam.get_role(RoleName=role)["Role"]["PermissionsBoundary"]
        assert bounded["PermissionsBoundaryArn"].endswith(":policy/golden-ami-boundary"), role
    for name in ("golden-ami-builder", "golden-ami-hub", "golden-ami-instance"):
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        assert [role["RoleName"] for role in profile["Roles"]] == [name]
        assert trust(name)["Principal"] == {"Service": "ec2.amazonaws.com"}
    golden(checkout, "remove", "--region", HOME)
    golden(
        checkout,
        "apply",
        "--region",
        HOME,
        "--set",
        "GitHubRepository=acme-12/images-34",
        *GITLAB,
        "--set",
        f"GitLabHost={LAB}",
        "--set",
        "GitLabJobs=any",
    )
    whole_branch = {**_LAB, "sub": _LAB["sub"].removesuffix(":environment_protected:true")}
    assert lets_in(trust("golden-ami-gitlab"), LAB, whole_branch)
    statement, sub = trust("golden-ami-github"), "repo:acme-12/images-34:environment:publish"
    assert lets_in(statement, HUB, {**_HUB, "sub": sub}), "a subject that names ids"
    assert not lets_in(statement, HUB, _HUB)


# --- what goes wrong: one line and a documented exit code ---


def made_of(template: Mapping[str, Any]) -> None:
    boto3.client("cloudformation", HOME).create_stack(
        StackName="golden-ami", TemplateBody=json.dumps(template)
    )


def another_form() -> None:
    made_of({"Description": "somebody's", "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})


def failed() -> None:
    """A first change set whose execution failed, made by hand: it leaves a stack in
    ROLLBACK_COMPLETE."""
    boto3.client("iam").create_role(RoleName="taken", AssumeRolePolicyDocument="{}")
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {"RoleName": "taken", "AssumeRolePolicyDocument": {}},
    }
    client = boto3.client("cloudformation", HOME)
    made = client.create_change_set(
        StackName="golden-ami",
        ChangeSetName="by-hand",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps({"Description": "goldenami account", "Resources": {"Role": role}}),
    )
    client.execute_change_set(ChangeSetName=made["Id"])


def name_taken() -> None:
    boto3.client("iam").create_role(RoleName="golden-ami-builder", AssumeRolePolicyDocument="{}")


WRONG = [
    ((), "nobody would be allowed to publish"),
    (("--set", "GitHubRepository=acme"), "GitHubRepository cannot be `acme`"),
    (
        (*GITHUB, "--set", "GitHubBrnch=x"),
        "no parameter `GitHubBrnch`: did you mean `GitHubBranch`?",
    ),
    ((*GITHUB, "--set", "GitHubProvider=no"), "GitHubProvider cannot be `no`"),
    ((*GITHUB, "--set", "Email"), "`--set Email` is not NAME=VALUE"),
    ((*GITHUB, "--region", "us-esat-1"), "unknown region `us-esat-1`"),
]


def test_what_goes_wrong(checkout: Checkout) -> None:
    checkout.define("publish: {regions: [us-west-2, us-east-1]}\n")
    for args, said in WRONG:
        text = golden(checkout, "apply", *args, code=2)
        assert said in text and "to do:" in text
    assert not exists(HOME)
    said = golden(checkout, "plan", *GITHUB)
    assert "home us-east-1" in said and "us-west-2: a new stack" in said, "the definitions' regions"


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (another_form, 2, "golden-ami in us-east-1 is not made from account.yml: `somebody's`"),
        (failed, 5, "the stack golden-ami in us-east-1 is in the state ROLLBACK_COMPLETE"),
        (name_taken, 5, "golden-ami-builder already exists"),
    ],
)
def test_what_is_in_the_way(
    checkout: Checkout,
    given: Callable[[], None],
    code: int,
    said: str,
) -> None:
    given()
    before = exists(HOME)
    text = golden(checkout, "apply", "--region", HOME, *GITHUB, code=code)
    assert said in text and "to do:" in text
    assert exists(HOME) is before and not buckets(), "nothing is half made"


def test_a_right_that_is_missing(checkout: Checkout, aws: Emulator) -> None:
    for denied in (
        "cloudformation:DescribeStacks",
        "cloudformation:CreateChangeSet",
        "cloudformation:ExecuteChangeSet",
        "iam:ListOpenIDConnectProviders",
        "iam:CreateRole",
        "s3:CreateBucket",
    ):
        aws.set(denied={"*": [denied]})
        assert denied in golden(checkout, "apply", "--region", HOME, *GITHUB, code=8)
        aws.set(denied={})
        assert not buckets() and not tables(HOME), denied
    golden(checkout, "apply", "--region", HOME, *GITHUB)


def test_a_removal_that_fails_is_done_again(checkout: Checkout) -> None:
    golden(checkout, "apply", "--region", HOME, *GITHUB)
    iam, policy = boto3.client("iam"), "arn:aws:iam::123456789012:policy/golden-ami-release"
    iam.create_role(RoleName="mine", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="mine", PolicyArn=policy)
    said = golden(checkout, "remove", "--region", HOME, code=5)
    assert "ReleasePolicy: Cannot delete a policy attached to entities" in said
    assert "DELETE_FAILED" in golden(checkout, "apply", "--region", HOME, *GITHUB, code=5)
    iam.detach_role_policy(RoleName="mine", PolicyArn=policy)
    golden(checkout, "remove", "--region", HOME)
    assert not exists(HOME) and not buckets()


@pytest.mark.parametrize("then", [("plan", *GITHUB), ("remove",)], ids=["plan", "remove"])
def test_a_plan_that_was_killed_leaves_nothing_in_the_way(
    checkout: Checkout, then: tuple[str, ...]
) -> None:
    boto3.client("cloudformation", HOME).create_change_set(
        StackName="golden-ami",
        ChangeSetName="killed",
        ChangeSetType="CREATE",
        TemplateBody=account_plan.template().body,
        Parameters=[{"ParameterKey": "HomeRegion", "ParameterValue": HOME}],
    )
    assert exists(HOME)
    golden(checkout, *then, "--region", HOME)
    assert exists(HOME) is (then[0] == "plan"), "a change set that waits may be another's"
    golden(checkout, "apply", "--region", HOME, *GITHUB)
