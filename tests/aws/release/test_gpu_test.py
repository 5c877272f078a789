"""`golden gpu-test` against the emulator: what it asks for, what it says when there is none, that
nothing is left.

Its instances have no machine here, so SSH does not answer; test_gpu_test_machine.py has one that
does.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from goldenami.aws import tags
from goldenami.core import clock
from goldenami.core.process import ProcessId
from support.aws.emulator import Emulator, Faults, retry_at_once
from support.aws.seeded_account import Calendar
from support.builds.builds import GPU_IMAGE, REGIONS, Checkout, RegionState
from support.gpu import candidates
from support.gpu.candidates import instances, left


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, aws: Emulator) -> None:
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "1")
    aws.set(pending_s=0, instance_address="127.0.0.9")


@pytest.fixture
def candidate(checkout: Checkout) -> str:
    return candidates.publish(checkout)


def gpu_test(checkout: Checkout, *args: str, code: int = 5) -> str:
    return checkout.run("gpu-test", GPU_IMAGE, "--wait-minutes", "0", *args, code=code)


def test_the_plan_names_types_zones_and_money_and_launches_nothing(
    checkout: Checkout,
    candidate: str,
    aws: Emulator,
) -> None:
    """By the price list and the Spot prices of the zones, over HTTP."""
    aws.set(
        usd_hour={
            "*": {
                "g4dn.xlarge": 0.526,
                "g5.xlarge": 1.5,
                "g5.2xlarge": 1.2,
                "g6.xlarge": 0.9,
                "g6e.xlarge": 0.8,
            }
        },
        usd_spot={"us-west-2b": 0.2},
    )
    text = gpu_test(checkout, "--dry-run", "--hours", "2", code=0)
    costs = "3 classes of machines, 2 h each at most; at most $5.05"
    assert f"test {GPU_IMAGE} {candidate} on {costs}" in text
    first = {
        name: line.split(maxsplit=1)[1]
        for line in reversed(text.splitlines())
        if (name := line.split(maxsplit=1)[0]).endswith("-one")
    }
    assert first == {
        "75-one": "g4dn.xlarge in us-west-2b Spot, at most $0.526/h (now $0.105)",
        "86-one": "g5.2xlarge in us-west-2b Spot, at most $1.200/h (now $0.240)",
        "89-one": "g6e.xlarge in us-west-2b Spot, at most $0.800/h (now $0.160)",
    }
    poor = "$1.20 do not pay 1 h on a machine of class 75-one; the whole test needs at most $2."
    assert poor in gpu_test(checkout, "--max-usd", "1.20", code=2)
    aws.set(denied={"*": ["pricing:GetProducts", "ec2:DescribeSpotPriceHistory"]})
    text = gpu_test(checkout, "--dry-run", code=0)
    assert "its prices are not known" in text
    assert "75-one       g4dn.xlarge in us-east-1a Spot, price unknown" in text
    text = gpu_test(checkout, "--dry-run", "--max-usd", "50", code=2)
    assert "no price is known: the AWS credentials may not call" in text and "--max-usd" in text
    assert instances(REGIONS[0]) == []


def test_without_capacity_every_offer_is_tried_and_a_quota_is_said_as_one(
    checkout: Checkout,
    candidate: str,
    faults: Faults,
) -> None:
    faults.add("ec2:RunInstances", code="InsufficientInstanceCapacity", status=500)
    text = gpu_test(checkout, code=5)
    assert f": {faults.met()} offers tried" in text, "each once, although EC2 calls it a failure"
    assert "EC2 has no machine of class 75-one for us" in text
    assert "EC2 launches no g4dn.xlarge in us-west-2a: InsufficientInstanceCapacity" in text
    faults.clear()
    faults.add("ec2:RunInstances", code="VcpuLimitExceeded")
    text = gpu_test(checkout, code=5)
    assert "the account allows no machine of class 75-one" in text
    assert "EC2 has no GPU" not in text and "VcpuLimitExceeded (Spot)" in text
    quotas = "`All G and VT Spot Instance Requests` and `Running On-Demand G and VT instances`"
    assert f"raise {quotas}" in text
    assert faults.met() == 4, "Spot and on demand, in each region, and not again"
    faults.clear()
    assert "SSH did not answer within 1 s" in gpu_test(checkout, code=5)
    (instance,) = instances(REGIONS[0])
    kind = (instance["InstanceType"], instance["InstanceLifecycle"])
    assert (kind, left()) == (("g4dn.xlarge", "spot"), [])
    assert RegionState(REGIONS[0], GPU_IMAGE).parameter(f"{candidate}/gpu-test") is None


@pytest.mark.parametrize(
    ("code", "where", "times", "launched"),
    [
        ("InsufficientFreeAddressesInSubnet", REGIONS[0], 1, (f"{REGIONS[0]}b", "spot")),
        ("InvalidSubnetID.NotFound", REGIONS[0], 1, (f"{REGIONS[0]}b", "spot")),
        ("MissingInput", REGIONS[0], 2, (f"{REGIONS[0]}c", "spot")),
        ("PendingVerification", REGIONS[0], 1, (f"{REGIONS[1]}a", "spot")),
        ("MaxSpotInstanceCountExceeded", REGIONS[0], 1, (f"{REGIONS[1]}a", "spot")),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "*", 2, (f"{REGIONS[0]}a", None)),
    ],
)
def test_a_refused_launch_says_what_is_tried_next(
    checkout: Checkout,
    candidate: str,
    faults: Faults,
    code: str,
    where: str,
    times: int,
    launched: tuple[str, str | None],
) -> None:
    """The next zone of the region, the next region, or on demand: not what is refused alike."""
    faults.add("ec2:RunInstances", code=code, regions=[where], times=times)
    text = gpu_test(checkout)
    assert faults.met() == times and f": {code} (Spot)" in text
    (instance,) = [raw for region in REGIONS for raw in instances(region)]
    zone = instance["Placement"]["AvailabilityZone"]
    assert ((zone, instance.get("InstanceLifecycle")), left()) == (launched, [])


def test_what_a_new_account_lacks_is_said_with_what_helps(
    checkout: Checkout,
    candidate: str,
    aws: Emulator,
    faults: Faults,
) -> None:
    faults.add("ec2:RunInstances", code="PendingVerification")
    assert "AWS looks at a new account for minutes" in gpu_test(checkout)
    assert faults.met() == len(REGIONS), "each region once, and not each zone"
    faults.clear()
    aws.set(has_default_vpc=False)
    text = gpu_test(checkout)
    assert "the account allows no machine of class 75-one; EC2 makes no security group" in text
    assert "name subnets in `publish: subnets:`" in text and left() == []


def test_in_an_account_without_default_network_the_definition_names_subnets(
    checkout: Checkout,
    candidate: str,
    aws: Emulator,
) -> None:
    """In each zone the one with the most free addresses; a zone without is not offered."""
    wanted = {}
    for region in REGIONS:
        ec2 = RegionState(region, GPU_IMAGE).ec2
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        for cidr in ("10.0.0.0/28", "10.0.1.0/24"):
            wanted[region] = ec2.create_subnet(
                VpcId=vpc,
                CidrBlock=cidr,
                AvailabilityZone=f"{region}b",
                TagSpecifications=tags.specifications({"Name": "machines"}, "subnet"),
            )["Subnet"]["SubnetId"]
    aws.set(has_default_vpc=False)
    named = f"publish: {{regions: [{', '.join(REGIONS)}], subnets: [SUBNET]}}\n"
    checkout.define(named.replace("SUBNET", "machines"), GPU_IMAGE)
    assert f"{REGIONS[0]}a" not in (text := gpu_test(checkout)), text
    (instance,) = instances(REGIONS[0])
    assert (instance["SubnetId"], left()) == (wanted[REGIONS[0]], [])
    checkout.define(named.replace("SUBNET", "others"), GPU_IMAGE)
    assert f"{REGIONS[0]} has no subnet others" in gpu_test(checkout, code=2)


def test_a_company_s_tags_are_on_all_that_is_made(
    checkout: Checkout,
    aws: Emulator,
) -> None:
    """From the start: a policy of the company may refuse what has none."""
    candidates.build(checkout, 1)
    checkout.define(
        f"publish: {{regions: [{', '.join(REGIONS)}], tags: {{CostCenter: '42'}}}}\n", GPU_IMAGE
    )
    checkout.golden("publish", GPU_IMAGE, "--accept-untested-gpu")
    gpu_test(checkout)
    ec2 = RegionState(REGIONS[0], GPU_IMAGE).ec2
    tagged = {
        row["ResourceType"]
        for row in ec2.describe_tags(Filters=[{"Name": "key", "Values": ["CostCenter"]}])["Tags"]
    }
    assert tagged >= {"image", "snapshot", "instance", "launch-template"}
    version = ec2.describe_launch_template_versions(
        LaunchTemplateName=f"golden-{GPU_IMAGE}", Versions=["$Default"]
    )["LaunchTemplateVersions"]
    specs = version[0]["LaunchTemplateData"]["TagSpecifications"]
    assert {each["ResourceType"] for each in specs} == {"instance", "volume"}


def test_no_candidate_and_one_of_another_lock_are_refused(checkout: Checkout) -> None:
    build_id = candidates.build(checkout, 1)
    assert f"{GPU_IMAGE} has no candidate in us-east-1" in gpu_test(checkout, code=2)
    checkout.golden("publish", GPU_IMAGE)
    other = candidates.build(checkout, 2)
    lock = f"is build {build_id}, the lock here is of {other}"
    assert lock in gpu_test(checkout, code=2)


def test_a_spot_instance_that_ec2_takes_back_is_no_word_about_the_image(
    checkout: Checkout,
    candidate: str,
    aws: Emulator,
) -> None:
    aws.set(spot_taken=1)
    text = gpu_test(checkout)
    assert "EC2 took the Spot instance g4dn.xlarge in us-east-1a back: trying another" in text
    zones = sorted(raw["Placement"]["AvailabilityZone"] for raw in instances(REGIONS[0]))
    assert (zones, left()) == (["us-east-1a", "us-east-1b"], [])
    assert "SSH did not answer" in text, "of the second, which stayed"


def test_what_a_run_elsewhere_left_is_removed_when_it_has_expired_and_named_before(
    checkout: Checkout,
    candidate: str,
) -> None:
    """Of this image; another's is another test's to see."""
    ec2 = RegionState(REGIONS[1], GPU_IMAGE).ec2
    hour = timedelta(hours=1)
    here = f"{tags.owner().rpartition(':')[0]}:{ProcessId.of(os.getppid())}"  # of another checkout
    for name, image, owner, expires in (
        ("gone", GPU_IMAGE, "ci@elsewhere:7", -hour),
        ("used", GPU_IMAGE, "ci@elsewhere:7", hour),
        ("others", "other", "ci@elsewhere:7", -hour),
        ("beside", GPU_IMAGE, here, hour),
    ):
        marks = {
            tags.IMAGE: image,
            tags.OWNER: owner,
            tags.EXPIRES: clock.stamp(clock.now() + expires),
        }
        ec2.create_key_pair(KeyName=name, TagSpecifications=tags.specifications(marks, "key-pair"))
    keys = {key["KeyName"]: key["KeyPairId"] for key in ec2.describe_key_pairs()["KeyPairs"]}
    text = gpu_test(checkout)
    assert "1 things removed that an earlier run left" in text
    stays = "stays: it is in use, or was left by"
    assert f"{REGIONS[1]}: key-pair {keys['used']} of ci@elsewhere:7 {stays}" in text
    assert keys["others"] not in text
    assert f"key-pair {keys['beside']} of {here} stays" in text
    assert sorted(left()) == ["beside", "others", "used"]


def test_an_instance_whose_image_never_booted_is_named_by_status_and_ended_by_the_next_test(
    checkout: Checkout,
    candidate: str,
    calendar: Calendar,
    aws: Emulator,
) -> None:
    """Its own timer is the image's: nobody else has it shut down."""
    state = RegionState(REGIONS[0], GPU_IMAGE)
    names = {}
    for image in (GPU_IMAGE, "other"):
        marks = {
            tags.IMAGE: image,
            tags.OWNER: "ci@elsewhere:7",
            tags.EXPIRES: clock.stamp(clock.now() + timedelta(hours=1)),
        }
        ami = state.ami(candidate)
        names[image] = state.ec2.run_instances(
            ImageId=ami,
            InstanceType="g4dn.xlarge",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=tags.specifications(marks, "instance"),
        )["Instances"][0]["InstanceId"]
    said = (
        f"{names[GPU_IMAGE]} of {GPU_IMAGE} in {REGIONS[0]} has expired and still runs: "
        "`golden sweep` ends it"
    )
    assert said not in checkout.golden("status", GPU_IMAGE).text
    calendar.days = 1
    assert said in checkout.golden("status", GPU_IMAGE).text
    assert "2 things removed that an earlier run left" in gpu_test(checkout)
    ended = {
        raw["InstanceId"] for raw in instances(REGIONS[0]) if raw["State"]["Name"] == "terminated"
    }
    assert ended >= set(names.values()) and left() == []


# --- answers that are lost, and calls that fail ---


@pytest.mark.parametrize(
    "call",
    ["ImportKeyPair", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances"],
)
def test_a_lost_answer_leaves_nothing(
    checkout: Checkout,
    candidate: str,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    """The client makes the call again, and EC2 has the thing already: it is taken, and removed at
    the end."""
    retry_at_once(monkeypatch)
    # Which answers are lost is drawn by the seed and the number of calls before.
    for seed in range(8):
        before = len(aws.calls())
        aws.late({"mode": "lost", "calls": [f"ec2:{call}"], "share": 0.6}, seed=seed)
        text = checkout.golden("gpu-test", GPU_IMAGE, "--wait-minutes", "0").text
        aws.late()
        assert left() == [], text
        made = [action for action, _ in aws.calls()[before:]].count(f"ec2:{call}")
        if made > 1 and "SSH did not answer" in text:
            return
    pytest.fail(f"no answer to {call} was lost and given again")


def test_an_instance_that_cannot_be_ended_is_named_with_region_price_and_command(
    checkout: Checkout,
    candidate: str,
    aws: Emulator,
) -> None:
    aws.set(denied={"*": ["ec2:TerminateInstances"]})
    text = gpu_test(checkout)
    (instance,) = instances(REGIONS[0])
    name = instance["InstanceId"]
    assert f"{name} (g4dn.xlarge in us-east-1a Spot, at most $0.526/h" in text
    assert "may still run in us-east-1: " in text
    assert f"`aws ec2 terminate-instances --region us-east-1 --instance-ids {name}` ends it" in text
    assert f"before that: {name}: SSH did not answer within 1 s" in text
    aws.set(denied={})
    text = gpu_test(checkout)
    assert instances(REGIONS[0])[0]["State"]["Name"] == "terminated", (
        "the next run of this machine ends it"
    )
    assert left() == [], text
