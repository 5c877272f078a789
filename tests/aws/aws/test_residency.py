"""Regions that are not allowed: forty ways to get there, each refused by its name, and no call
arrives."""

from __future__ import annotations

import re

import boto3
import pytest
from goldenami.aws.services import notify
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput
from goldenami.model.operation.residency import AllowedRegions
from support import trees
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds import builds
from support.builds.builds import GPU_IMAGE, IMAGE, ROOT, Checkout

AWAY = "eu-west-1"
RULE = "packer/residency.yml"
AT_HOME = "publish: {regions: [us-east-1]}\n"
ELSEWHERE = f"publish: {{regions: [us-east-1, {AWAY}]}}\n"
OWN_RULE = f"residency: {{regions: [us-*]}}\n{ELSEWHERE}"
TOPIC = f"arn:aws:sns:{AWAY}:123456789012:golden-ami"
KEY = f"arn:aws:kms:{AWAY}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
BUCKET = "golden-away"

DECLARED = [
    (command, IMAGE)
    for command in (
        "check",
        "lock",
        "bake",
        "publish",
        "promote",
        "rollback",
        "release",
        "retire",
        "reproduce",
        "status",
        "costs",
        "drift",
    )
] + [("gpu-test", GPU_IMAGE)]
"""Commands on a definition that names such a region: refused before they do anything."""
ASKED: list[tuple[str, ...]] = [
    ("account", "plan", "--region", AWAY),
    ("account", "apply", "--region", AWAY),
    ("regions", "--family", "m7i", "--region", AWAY),
    ("rollback", IMAGE, "--region", AWAY),
    ("rollback", IMAGE, "--to", "0123456789ab", "--region", AWAY),
    ("gpu-test", GPU_IMAGE, "--region", AWAY),
    ("drift", IMAGE, "--instance", "i-0123456789abcdef0", "--region", AWAY),
    ("bake", IMAGE, "--builder", "ec2", "--region", AWAY),
]
"""Commands that are asked to go there."""
NAMED = [
    ("GOLDEN_STORE_S3", f"s3://{BUCKET}/store", ("store", "push")),
    ("GOLDEN_SITE_S3", f"s3://{BUCKET}/site", ("status", "--site", "here")),
    ("GOLDEN_SIGNING_KEY", KEY, ("publish", IMAGE)),
]
"""What the environment names there."""
SERVICES = [
    "autoscaling",
    "cloudformation",
    "cloudtrail",
    "cloudwatch",
    "dynamodb",
    "ebs",
    "ec2",
    "ecr",
    "kms",
    "logs",
    "s3",
    "sns",
    "ssm",
    "sts",
]
"""What keeps something of an image, or runs it: log groups and registries, too."""


@pytest.fixture
def bound(checkout: Checkout, aws: Emulator) -> Checkout:
    """A checkout that may be in the United States alone, with a build that is published there."""
    checkout.define(AT_HOME)
    checkout.define(AT_HOME, GPU_IMAGE)
    (checkout.root / RULE).write_text("regions: [us-*]\n", encoding="utf-8")
    return checkout


def refused(checkout: Checkout, *args: str, rule: str = RULE) -> None:
    ran = checkout.golden(*args)
    assert f"{AWAY} is not allowed: {rule} allows us-*" in ran.text, (args, ran.text)
    assert ran.code == 2, (args, ran.text)


def reached(aws: Emulator) -> list[tuple[str, str]]:
    return [call for call in aws.calls() if AWAY in call]


def test_a_definition_cannot_name_one(bound: Checkout, aws: Emulator) -> None:
    for command, image in DECLARED:
        bound.define(ELSEWHERE, image)
        refused(bound, command, image)
        bound.define(AT_HOME, image)
    (bound.root / RULE).unlink()
    bound.define(OWN_RULE)
    refused(bound, "check", IMAGE, rule=f"{IMAGE}.yml: residency")
    assert not reached(aws)


def test_no_command_goes_there(bound: Checkout, aws: Emulator) -> None:
    for args in ASKED:
        refused(bound, *args)
    assert not reached(aws)


def test_nothing_that_is_named_there_is_used(
    bound: Checkout, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("s3", AWAY).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": AWAY}
    )
    builds.build(bound.root, 1)
    before = reached(aws)
    for variable, value, args in NAMED:
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            refused(bound, *args)
    monkeypatch.setenv("GOLDEN_SNS_TOPIC", TOPIC)
    [untold] = notify.tell(Account(AllowedRegions(rules=((RULE, ("us-*",)),))), "news", "")
    assert f"{AWAY} is not allowed" in untold.message
    assert reached(aws) == before


def test_no_service_is_reached_there(aws: Emulator) -> None:
    account = Account(AllowedRegions(rules=((RULE, ("us-*",)),)))
    for service in SERVICES:
        for asked in (account, account.with_short_timeouts(), account.tester()):
            with pytest.raises(BadInput, match=f"{AWAY} is not allowed: {RULE} allows us-"):
                asked.client(service, AWAY)
    account.client("pricing", AWAY)  # prices are nobody's data


def test_the_view_of_regions(bound: Checkout, account: SeededAccount) -> None:
    """It leaves out what is not allowed, and says how far the rest is, and where machines run."""
    (bound.root / RULE).write_text("regions: [eu-central-1, us-east-1]\n", encoding="utf-8")
    account.launch(account.ami(1))
    said = bound.golden("regions", "--family", "m7i").text
    first, second, left_out = said.splitlines()[:3]
    away = r"\d+ ms away"
    assert re.fullmatch(
        rf"  us-east-1 .* \({away}, 1 machines of the account run there, the default\)", first
    )
    assert re.fullmatch(rf"  eu-central-1 .* \({away}\)", second)
    assert left_out.startswith("not allowed by `residency`, and left out: ")
    assert AWAY in left_out and "us-east-1" not in left_out


def test_the_digest_is_told_and_remembered_where_all_images_may_be(
    bound: Checkout, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the file or by one definition's own rule; what it asks for to be told stays at home."""
    monkeypatch.setenv("AWS_REGION", AWAY)
    refused(bound, "digest")
    refused(bound, "digest", "--dry-run")
    (bound.root / RULE).unlink()
    bound.define(f"residency: {{regions: [us-*]}}\n{AT_HOME}")
    refused(bound, "digest", rule=f"{IMAGE}.yml: residency")
    assert not reached(aws)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("GOLDEN_SNS_TOPIC", TOPIC)
    refused(bound, "digest", rule=f"{IMAGE}.yml: residency")
    assert not reached(aws)


def test_what_looks_or_ends_goes_where_it_is_told_and_nowhere_else(
    bound: Checkout, aws: Emulator
) -> None:
    for command, image in (
        ("status", IMAGE),
        ("costs", IMAGE),
        ("drift", IMAGE),
        ("retire", IMAGE),
    ):
        before = len(aws.calls())
        said = bound.golden(command, image, "--region", AWAY).text
        assert "not allowed" not in said and said
        assert {call[1] for call in aws.calls()[before:]} - {"us-east-1"} == {AWAY}
    with pytest.raises(BadInput, match="eu-west-2 is not allowed"):
        Account(AllowedRegions(rules=((RULE, ("us-*",)),), also=frozenset({AWAY}))).ec2("eu-west-2")


def test_only_a_checkout_makes_accounts_and_rules() -> None:
    """An account without regions is none: no other module of the product can say which."""
    with pytest.raises(TypeError, match="allowed"):
        Account()  # type: ignore[call-arg]
    files = trees.scanned(300, ROOT, "scripts/goldenami*/**/*.py")
    makers = {
        path.name
        for path in files
        if re.search(r"\b(Account|AllowedRegions)\((?!Record)", path.read_text("utf-8"))
    }
    assert makers == {"checkout.py", "session.py", "residency.py"}
