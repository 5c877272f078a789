"""What `golden status` and `golden regions` say of an account, and in how many calls."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from goldenami.aws import tags
from goldenami.aws.pricing import prices
from goldenami.core import clock, records
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.release.retire.status import StatusRecord
from goldenami_fleet.costs import family_regions
from goldenami_fleet.costs.family_regions import RegionsRecord
from goldenami_fleet.costs.region_advice import speedup_of
from support.aws import unbound
from support.aws.emulator import Emulator
from support.aws.seeded_account import IMAGE, SeededAccount, build_id
from support.builds import report_data as data
from support.builds.builds import Checkout
from support.ec2 import instance_types

OTHER_REGION = "us-west-2"
MIB = 1 << 20


def status(checkout: Checkout, *args: str, code: int = 0) -> StatusRecord:
    said = checkout.run("status", *args, "--json", code=code)
    return StatusRecord.model_validate_json(said[: said.index("\n}\n") + 3])


def test_status_says_who_runs_which_build_and_what_it_costs(
    account: SeededAccount, checkout: Checkout
) -> None:
    first = account.ami(1, snapshot=account.snapshot(1, stored_bytes=str(1024 * MIB)))
    delta = account.snapshot(2, stored_bytes=str(20 * MIB), parent_snapshot=account.backing(first))
    second = account.ami(2, snapshot=delta)
    orphan = account.snapshot(3, stored_bytes="7", parent_snapshot="snap-00000000000000000")
    account.ami(3, snapshot=orphan)
    account.point(f"/golden-ami/{IMAGE}/latest", first)
    account.point(f"/golden-ami/{IMAGE}/candidate", second)
    template = account.template(f"golden-{IMAGE}", [first, second], tagged=True)
    account.group("workers", LaunchTemplate={"LaunchTemplateId": template, "Version": "1"})
    account.groups.set_desired_capacity(AutoScalingGroupName="workers", DesiredCapacity=1)
    account.launch(first)
    record = status(checkout, IMAGE, "--region", account.region)
    (found,) = record.regions[account.region]
    assert found.latest and (found.latest.ami, found.latest.build_id) == (first, build_id(1))
    assert found.candidate and found.candidate.build_id == build_id(2)
    assert found.template and (found.template.build_id, found.template_version) == (build_id(1), 1)
    assert found.template_groups == {"workers": "1"}
    third, newer, older = found.amis
    assert (older.instances, older.groups) == (2, {"workers": 1})
    assert (older.bytes, older.bytes_exact, older.usd_month) == (1024 * MIB, True, 0.05)
    assert (newer.bytes, newer.bytes_exact) == (20 * MIB, True), "its changed blocks alone"
    assert (third.bytes, third.bytes_exact) == (1024 * MIB, False), "no parent: the whole volume"
    text = checkout.golden("status", IMAGE, "--region", account.region).text
    for expected in (
        "2 running (1 in workers)",
        "$0.05 a month",
        "<= 1.00 GiB",
        "group workers launches version 1",
        "prices: AWS's price list (pricing:GetProducts) of 2024-12-02",
    ):
        assert expected in text, text
    said = checkout.golden("status", "--region", account.region).text.splitlines()
    unsigned = [f"{IMAGE} {build_id(number)}: unsigned" in said for number in (1, 2, 3)]
    assert unsigned == [True, True, False]
    head, *rows = (line.split() for line in said if ": " not in line)
    assert head == [
        "image",
        "region",
        "latest",
        "candidate",
        "template",
        "AMIs",
        "running",
        "a",
        "month",
    ]
    shown = {row[0]: row[1:] for row in rows}
    assert shown.pop(IMAGE) == [
        account.region,
        build_id(1),
        build_id(2),
        "v1",
        build_id(1),
        "3",
        "2",
        "<=",
        "$0.10",
    ]
    assert set(map(tuple, shown.values())) == {(account.region, "-", "-", "-", "0", "0", "$0.00")}


def test_of_a_build_for_gpus_its_test_and_its_support_are_said(
    account: SeededAccount, checkout: Checkout
) -> None:
    """Support by the lock that is here: of all images what ends, of one everything."""
    name = "debian-13-ml"
    lock = data.lock(image=name)
    build = records.sha256_text(records.canonical(lock))[:12]
    records.write_text(
        ImageFolder.of(checkout.root, name).build(build).lock, records.canonical(lock)
    )
    account.image = name
    ami = account.ami(1)
    account.ec2.create_tags(Resources=[ami], Tags=tags.to_list({tags.BUILD_ID: build}))
    account.point(f"/golden-ami/{name}/latest", ami)
    said = checkout.golden("status", "--region", account.region).text
    assert f"{name} {build}: no GPU has run this build" in said, said
    assert (
        f"{name} {build}: NVIDIA driver 535.309.01 ended 2026-06-30" in said
        and "Distribution" not in said
    )
    assert (
        "Distribution debian trixie supported until"
        in checkout.golden("status", name, "--region", account.region).text
    )


def test_a_region_that_cannot_be_read_is_unreachable(
    account: SeededAccount, checkout: Checkout, aws: Emulator
) -> None:
    account.ami(1)
    aws.set(disabled_regions=[OTHER_REGION])
    record = status(checkout, IMAGE, code=8)
    assert list(record.regions) == [account.region] and list(record.unreachable) == [OTHER_REGION]
    text = checkout.golden("status", IMAGE).text
    assert f"{OTHER_REGION} is unreachable" in text
    assert text.count(record.unreachable[OTHER_REGION]) == 1
    aws.set(disabled_regions=[], denied={"*": ["ssm:GetParameters"]})
    record = status(checkout, IMAGE, code=8)
    assert not record.regions
    assert all("ssm:GetParameters" in cause for cause in record.unreachable.values())


@pytest.mark.long
def test_five_hundred_amis_take_at_most_ten_calls(
    account: SeededAccount, checkout: Checkout, aws: Emulator
) -> None:
    for number in range(1, 501):
        account.ami(number, recorded=False)
    account.template(
        f"golden-{IMAGE}", [ami.id for ami in account.amis().values()][:5], tagged=True
    )
    for ami in list(account.amis())[:20]:
        account.launch(ami)
    before = len(aws.calls())
    (found,) = status(checkout, IMAGE, "--region", account.region).regions[account.region]
    calls = aws.calls()[before:]
    assert len(found.amis) == 500 and sum(ami.instances for ami in found.amis) == 20
    assert len(calls) <= 10, calls


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"denied": {"*": ["pricing:GetProducts"]}},
            "prices: unknown: the AWS credentials may not call pricing",
        ),
    ],
)
def test_a_price_that_nobody_knows_is_unknown_and_stops_nothing(
    account: SeededAccount,
    checkout: Checkout,
    aws: Emulator,
    settings: dict[str, Any],
    said: str,
) -> None:
    account.ami(1)
    aws.set(**settings)
    text = checkout.run("status", IMAGE, "--region", account.region)
    assert said in text
    assert "price not known" in text and "$" not in text


def test_what_a_person_made_public_is_named_with_the_way_back(
    account: SeededAccount, checkout: Checkout
) -> None:
    """Also where no pointer names it: who has its id launches it, or reads the disk."""
    shown, read = account.ami(1), account.ami(2)
    snapshot = account.backing(read)
    account.ec2.modify_image_attribute(ImageId=shown, LaunchPermission={"Add": [{"Group": "all"}]})
    account.ec2.modify_snapshot_attribute(
        SnapshotId=snapshot,
        Attribute="createVolumePermission",
        OperationType="add",
        GroupNames=["all"],
    )
    expected = [
        f"{shown} is public: `aws ec2 modify-image-attribute --region {account.region} --image-id "
        f"{shown} --launch-permission 'Remove=[{{Group=all}}]'` takes that back",
        f"{snapshot} of {read} is public: `aws ec2 modify-snapshot-attribute --region "
        f"{account.region} --snapshot-id {snapshot} --attribute createVolumePermission "
        "--operation-type remove --group-names all` takes that back",
    ]
    for command in ("status", "drift"):
        said = checkout.run(command, IMAGE, "--region", account.region, code=6)
        assert [line for line in expected if line not in said] == [], said
    account.ec2.modify_image_attribute(
        ImageId=shown, LaunchPermission={"Remove": [{"Group": "all"}]}
    )
    account.ec2.modify_snapshot_attribute(
        SnapshotId=snapshot,
        Attribute="createVolumePermission",
        OperationType="remove",
        GroupNames=["all"],
    )
    for command in ("status", "drift"):
        assert "is public" not in checkout.run(command, IMAGE, "--region", account.region)


# --- regions ---


def test_regions_of_a_family_with_and_without_prices(aws: Emulator, checkout: Checkout) -> None:
    aws.set(usd_hour={"us-east-1": {"g5.xlarge": 1.006}})
    ran = checkout.golden(
        "regions", "--family", "g5", "--region", "us-east-1", "--region", "eu-south-1"
    )
    assert ran.code == 0, ran.text
    assert "us-east-1       g5.xlarge $1.006/h to g5." in ran.text
    assert "eu-south-1      has no g5" in ran.text, ran.text
    unknown = checkout.golden("regions", "--family", "g55", "--region", "us-east-1")
    assert unknown.code == 2 and "no region has a family `g55`: did you mean `g5`?" in unknown.text
    aws.set(denied={"*": ["pricing:GetProducts"]})
    text = checkout.run("regions", "--family", "g5", "--region", "us-east-1")
    assert "g5.xlarge" in text
    assert "what an hour costs cannot be known" in text and "$" not in text
    aws.set(denied={"*": ["pricing:GetProducts", "ec2:DescribeSpotPriceHistory"]})
    wanted = ("--family", "g5", "--region", "us-east-1", "--gpu-hours", "10")
    said = checkout.run("regions", *wanted)
    assert "Spot's prices are unknown" in said and " unknown " in said and "$" not in said


def test_regions_of_an_image_are_a_line_each(aws: Emulator, checkout: Checkout) -> None:
    """Each family by its ends; and that no price is known is said."""
    said = checkout.run("regions", IMAGE, "--region", "us-east-1").splitlines()
    assert len(said) == 2 and len(said[0]) < 200, said
    assert said[1] == "what an hour costs cannot be known: AWS's price list has none of these types"


def test_a_workload_is_priced_in_every_region(aws: Emulator, checkout: Checkout) -> None:
    aws.set(
        usd_hour={
            "us-east-1": {"g5.xlarge": 1.0, "g5.48xlarge": 16.0},
            "eu-west-1": {"g5.xlarge": 0.9},
        },
        usd_spot={"us-east-1a": 0.5, "us-east-1b": 0.3},
    )
    asked = (
        "regions",
        "--family",
        "g5",
        "--region",
        "us-east-1",
        "--region",
        "eu-west-1",
        "--gpu-hours",
        "1000",
    )
    said = checkout.run(*asked, "--json")
    advice = RegionsRecord.model_validate_json(said).advice
    assert advice
    rows = {(row.region, row.offer.instance_type): row for row in advice.rows}
    home, away = rows["us-east-1", "g5.xlarge"], rows["eu-west-1", "g5.xlarge"]
    assert (home.usd_month, home.machines, home.offer.gpus, away.usd_month) == (1000, 2, 1, 900)
    spot = home.offer.spot
    assert spot and (spot.zone, spot.usd_mean, home.usd_month_spot) == ("us-east-1b", 0.3, 300)
    assert advice.rows[0] == away, "the cheapest first"
    unpriced = rows["eu-west-1", "g5.48xlarge"]
    assert (unpriced.offer.usd_hour, unpriced.usd_month, unpriced.usd_month_spot) == (
        None,
        None,
        None,
    )
    many = rows["us-east-1", "g5.48xlarge"]
    assert (many.offer.gpus, many.speedup, many.hours, many.usd_month) == (8, 5, 200, 3200)
    text = checkout.golden(*asked).text
    assert "8 in g5.48xlarge are 5 times as fast as one in g5.xlarge, at " in text
    assert "unknown" in text and "$0.00" not in text, text


def test_data_and_its_way_from_the_default_region(aws: Emulator, checkout: Checkout) -> None:
    """The default is where machines run, else the environment's; a price that is not listed, of
    data or of a type, is said."""
    aws.set(usd_hour={"*": {"g5.xlarge": 1.0}, "eu-west-1": {"g5.48xlarge": 16.0}})
    regions = ("us-east-2", "us-west-2", "eu-west-1")
    asked = ["regions", "--family", "g5", "--gb", "1500"]
    for region in regions:
        asked += ["--region", region]
    lines = re.sub(r"\d+ ms", "N ms", checkout.run(*asked)).splitlines()
    assert lines == [
        "  eu-west-1       g5.xlarge $1.000/h to g5.48xlarge $16.000/h, 8 types, 6 without a price "
        "(N ms away, 1500 GB from us-east-1 cost $30.00)",
        "  us-east-2       g5.xlarge $1.000/h to g5.48xlarge, 8 types, 7 without a price "
        "(N ms away, 1500 GB from us-east-1 cost $30.00)",
        "  us-west-2       g5.xlarge $1.000/h to g5.48xlarge, 8 types, 7 without a price "
        "(N ms away, 1500 GB from us-east-1 cost unknown)",
    ], lines
    ohio = SeededAccount(aws, region="us-east-2")
    ami = ohio.ami(1)
    for _ in range(2):
        ohio.launch(ami)
    lines = re.sub(r"\d+ ms", "N ms", checkout.run(*asked)).splitlines()
    assert lines[0].endswith("(N ms away, 2 machines of the account run there, the default)")
    assert lines[1].endswith("(N ms away, 1500 GB from us-east-2 cost $15.00)")


def test_the_smallest_machine_of_each_plain_family_that_has_what_work_needs(
    checkout: Checkout,
) -> None:
    """By EC2's descriptions of its types; and that none is so large is said."""
    plain = re.compile(r"([mcr]\d[aig])\.")
    expected: dict[str, tuple[int, str]] = {}
    for row in instance_types.described():
        found = plain.match(row["InstanceType"])
        vcpus = row["VCpuInfo"]["DefaultVCpus"]
        if found and vcpus >= 6 and row["MemoryInfo"]["SizeInMiB"] >= 30 * 1024:
            least = expected.get(found[1], (vcpus, row["InstanceType"]))
            expected[found[1]] = min(least, (vcpus, row["InstanceType"]))
    asked = ("regions", "--cores", "6", "--memory", "30", "--region", "us-east-1")
    record = RegionsRecord.model_validate_json(checkout.run(*asked, "--json"))
    names = {offer.instance_type for offer in record.regions["us-east-1"]}
    offered = {name for name in names if name.partition(".")[0] in expected}
    assert names == offered <= {name for _, name in expected.values()} and len(names) > 10
    assert {"m7i.2xlarge", "c7i.4xlarge", "r7i.2xlarge"} <= names
    assert "m (4 GiB a vCPU) is the most flexible" in checkout.run(*asked)
    said = checkout.run("regions", "--cores", "5000", "--region", "us-east-1", code=2)
    assert "no type without a GPU has as many cores and as much memory" in said
    assert "no type without" in checkout.run("regions", "--family", "g5", "--memory", "1", code=2)


@pytest.mark.parametrize(("gpus", "times"), [(1, 1), (8, 5), (4, 2.924), (16, 8.55)])
def test_several_gpus_are_on_one_curve(gpus: int, times: float) -> None:
    assert speedup_of(gpus) == pytest.approx(times, abs=0.01)


def test_a_spot_price_counts_as_long_as_it_held() -> None:
    start = clock.now()
    end = start + timedelta(days=10)
    history = [(start + timedelta(days=9), 2.0), (start - timedelta(days=3), 1.0)]
    assert prices.mean_by_time(history, start, end) == pytest.approx(1.1)
    assert prices.mean_by_time([(end, 3.0)], start, end) == 3.0


def test_all_regions_are_asked_and_a_closed_one_is_said(aws: Emulator) -> None:
    aws.set(disabled_regions=["eu-west-1"])
    record, failed = family_regions.read_regions(unbound.account(), ["g5"], [])
    assert "us-east-1" in record.regions and list(failed) == ["eu-west-1"] == list(
        record.unreachable
    )
