from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.aws.emulator_probe import OTHER_REGION, REGION, ProbeAccount, probe, refused

TYPE = "c7i.large"
ROLE = "arn:aws:iam::123456789012:role/fleet"


def _template(account: ProbeAccount, *images: str) -> str:
    """A launch template with a version for each image."""
    first, *more = ({"ImageId": image, "InstanceType": TYPE} for image in images)
    made: str = account.ec2.create_launch_template(
        LaunchTemplateName="golden-x", LaunchTemplateData=first)["LaunchTemplate"]["LaunchTemplateId"]
    for data in more:
        account.ec2.create_launch_template_version(LaunchTemplateId=made, LaunchTemplateData=data)
    return made


def _fleet(account: ProbeAccount, template: str, **more: Any) -> str:
    named = {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"}}
    made: str = account.ec2.create_fleet(
        LaunchTemplateConfigs=[named], **more,
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"})["FleetId"]
    return made


def _spot_fleet(account: ProbeAccount, capacity: int = 0, **config: Any) -> str:
    made: str = account.ec2.request_spot_fleet(SpotFleetRequestConfig={
        "IamFleetRole": ROLE, "TargetCapacity": capacity, "AllocationStrategy": "lowestPrice", **config})[
            "SpotFleetRequestId"]
    return made


def _described(account: ProbeAccount, fleet: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = account.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet])[
        "SpotFleetRequestConfigs"]
    return found[0]


def _request(account: ProbeAccount, image: str, **more: Any) -> dict[str, Any]:
    request = {"ImageId": image, "InstanceType": TYPE}
    made: dict[str, Any] = account.ec2.request_spot_instances(LaunchSpecification=request, **more)[
        "SpotInstanceRequests"][0]
    return made


def _state(account: ProbeAccount, request: dict[str, Any]) -> str:
    described = account.ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=[request["SpotInstanceRequestId"]])["SpotInstanceRequests"]
    state: str = described[0]["State"]
    return state


@probe("get_products")
def test_the_price_list_has_what_all_filters_match(account: ProbeAccount) -> None:
    account.set(usd_hour={"*": {"g5.xlarge": 1.006, "g6.xlarge": 0.8}, OTHER_REGION: {"g5.xlarge": 1.123}}, page_most=2)
    filters = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "g5.xlarge"}]
    pages = account.client("pricing").get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    products = [[json.loads(text) for text in page["PriceList"]] for page in pages]
    assert len(products) > 1 and {len(page) for page in products} <= {1, 2}
    found = {product["product"]["attributes"]["regionCode"]: product for page in products for product in page}
    rate = found[OTHER_REGION]["terms"]["OnDemand"]["T"]["priceDimensions"]["D"]
    assert (len(found), float(rate["pricePerUnit"]["USD"]), rate["unit"]) == (5, 1.123, "Hrs")
    assert {product["product"]["attributes"]["instanceType"] for product in found.values()} == {"g5.xlarge"}


@probe("describe_spot_price_history")
def test_a_spot_price_is_of_a_zone_and_below_the_price_on_demand(account: ProbeAccount) -> None:
    account.set(usd_hour={"*": {"g5.xlarge": 1.0}}, usd_spot={f"{REGION}a": 0.25})
    rows = account.ec2.describe_spot_price_history(InstanceTypes=["g5.xlarge", "g6.xlarge"])["SpotPriceHistory"]
    assert {(row["InstanceType"], row["ProductDescription"]) for row in rows} == {("g5.xlarge", "Linux/UNIX")}
    found = {row["AvailabilityZone"]: float(row["SpotPrice"]) for row in rows}
    assert found[f"{REGION}a"] == 0.25 and set(found.values()) == {0.25, 0.4}


@probe("take_back")
def test_a_spot_instance_is_taken_back_with_its_reason(account: ProbeAccount) -> None:
    account.set(spot_taken=1)
    launched = [account.ec2.run_instances(
        ImageId=account.image(f"golden-{number}"), InstanceType="g5.xlarge", MinCount=1, MaxCount=1,
        InstanceMarketOptions={"MarketType": "spot"})["Instances"][0]["InstanceId"] for number in range(2)]
    account.ec2.get_waiter("instance_terminated").wait(
        InstanceIds=launched[:1], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    first, second = (account.ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
                     for name in launched)
    assert first["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert second["State"]["Name"] == "running"


@probe("describe_fleets")
def test_fleets_come_in_pages_and_an_instant_one_by_its_id(account: ProbeAccount) -> None:
    template = _template(account, account.image())
    instant = _fleet(account, template, Type="instant")
    others = [_fleet(account, template) for _ in range(3)]
    pages = account.ec2.get_paginator("describe_fleets").paginate(PaginationConfig={"PageSize": 2})
    assert [[each["FleetId"] for each in page["Fleets"]] for page in pages] == [others[:2], others[2:]]
    assert [each["Type"] for each in account.ec2.describe_fleets(FleetIds=[instant])["Fleets"]] == ["instant"]


@probe("describe_spot_fleet_requests")
def test_spot_fleets_come_in_pages_and_stay_after_their_end(account: ProbeAccount) -> None:
    request = {"LaunchSpecifications": [{"ImageId": account.image(), "InstanceType": TYPE}]}
    fleets = [_spot_fleet(account, 1, **request) for _ in range(3)]
    for fleet, terminate, state in ((fleets[0], False, "cancelled_running"),
                                    (fleets[1], True, "cancelled_terminating")):
        (done,) = account.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet], TerminateInstances=terminate)[
            "SuccessfulFleetRequests"]
        assert (done["PreviousSpotFleetRequestState"], done["CurrentSpotFleetRequestState"]) == ("active", state)
        assert _described(account, fleet)["SpotFleetRequestState"] == state
    pages = account.ec2.get_paginator("describe_spot_fleet_requests").paginate(PaginationConfig={"PageSize": 2})
    assert [len(each["SpotFleetRequestConfigs"]) for each in pages] == [2, 1]
    states = {each["State"]["Name"] for one in account.ec2.describe_instances()["Reservations"]
              for each in one["Instances"]}
    assert states == {"running", "terminated"}
    requests = account.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert sorted(each["State"] for each in requests) == ["active", "cancelled", "cancelled"]


@probe("launched_by")
def test_a_spot_fleet_launches_from_the_version_it_names_and_says_so(account: ProbeAccount) -> None:
    first, second = account.image("one"), account.image("two")
    template = _template(account, first, second)
    configs = [{"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                "Overrides": [{"InstanceType": "c7i.xlarge"}, {"InstanceType": "c7i.2xlarge"}]}]
    fleet = _spot_fleet(account, 2, AllocationStrategy="diversified", LaunchTemplateConfigs=configs)
    config = _described(account, fleet)["SpotFleetRequestConfig"]
    assert config["LaunchTemplateConfigs"] == configs
    assert "LaunchSpecifications" not in config
    launched = {(each["ImageId"], each["InstanceType"]) for one in account.ec2.describe_instances()["Reservations"]
                for each in one["Instances"]}
    assert launched == {(first, "c7i.xlarge"), (first, "c7i.2xlarge")}
    refused("InvalidSpotFleetRequestConfig", _spot_fleet, account=account, LaunchTemplateConfigs=configs,
            LaunchSpecifications=[{"ImageId": first, "InstanceType": TYPE}])


@probe("describe_spot_instance_requests")
def test_spot_requests_come_in_pages_and_stay_after_their_end(account: ProbeAccount) -> None:
    image = account.image()
    request_ids = [_request(account, image)["SpotInstanceRequestId"] for _ in range(7)]
    account.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=request_ids[:1])
    pages = account.ec2.get_paginator("describe_spot_instance_requests").paginate(PaginationConfig={"PageSize": 5})
    assert [len(each["SpotInstanceRequests"]) for each in pages] == [5, 2]
    described = account.ec2.describe_spot_instance_requests(Filters=[{"Name": "state", "Values": ["cancelled"]}])
    assert [each["SpotInstanceRequestId"] for each in described["SpotInstanceRequests"]] == request_ids[:1]
    refused("InvalidParameterValue", account.ec2.describe_spot_instance_requests, MaxResults=4)


@probe("state_of")
def test_a_spot_request_is_what_its_time_and_its_instance_are(account: ProbeAccount) -> None:
    image = account.image()
    early = _request(account, image, ValidFrom=datetime.now(UTC) + timedelta(days=1))
    assert (_state(account, early), early.get("InstanceId")) == ("open", None)
    kept, ended = _request(account, image, Type="persistent"), _request(account, image)
    assert (_state(account, kept), _state(account, ended)) == ("active", "active")
    account.ec2.stop_instances(InstanceIds=[kept["InstanceId"]])
    account.ec2.terminate_instances(InstanceIds=[ended["InstanceId"]])
    assert (_state(account, kept), _state(account, ended)) == ("disabled", "closed")


@probe("request_spot_instances")
def test_a_request_keeps_its_block_devices(account: ProbeAccount) -> None:
    data = {"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": account.snapshot()}}
    request = account.ec2.request_spot_instances(LaunchSpecification={
        "ImageId": account.image(), "InstanceType": TYPE, "BlockDeviceMappings": [data]})["SpotInstanceRequests"][0]
    described = account.ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=[request["SpotInstanceRequestId"]])["SpotInstanceRequests"]
    assert described[0]["LaunchSpecification"]["BlockDeviceMappings"] == [data]


# --- types of groups and fleets -------------------------------------------------------------------------------------

NEED = {"VCpuCount": {"Min": 4}, "MemoryMiB": {"Min": 16384}, "AllowedInstanceTypes": ["m7i.*"]}


def _plain_template(account: ProbeAccount) -> str:
    made: str = account.ec2.create_launch_template(LaunchTemplateName="plain", LaunchTemplateData={
        "ImageId": account.image()})["LaunchTemplate"]["LaunchTemplateId"]
    return made


def _group(account: ProbeAccount, *overrides: dict[str, Any]) -> None:
    named = {"LaunchTemplateId": account.ec2.describe_launch_templates()["LaunchTemplates"][0]["LaunchTemplateId"],
             "Version": "1"}
    account.groups.create_auto_scaling_group(
        AutoScalingGroupName="g", MinSize=1, MaxSize=1, AvailabilityZones=["us-east-1a"], MixedInstancesPolicy={
            "LaunchTemplate": {"LaunchTemplateSpecification": named, "Overrides": list(overrides)}})


def _launched(account: ProbeAccount) -> list[str]:
    return [each["InstanceType"] for one in account.ec2.describe_instances()["Reservations"]
            for each in one["Instances"]]


@probe("override_type", "group_type")
def test_a_groups_policy_says_its_types(account: ProbeAccount) -> None:
    _plain_template(account)
    refused("ValidationError", _group, account=account)
    both = {"InstanceType": TYPE, "InstanceRequirements": NEED}
    with pytest.raises(ClientError, match="can't specify InstanceType"):
        _group(account, both)
    assert _launched(account) == []
    _group(account, {"InstanceRequirements": NEED})
    (chosen,) = _launched(account)
    (described,) = account.ec2.describe_instance_types(InstanceTypes=[chosen])["InstanceTypes"]
    assert chosen.startswith("m7i.") and described["VCpuInfo"]["DefaultVCpus"] >= 4


@probe("fleet_type")
def test_a_fleets_overrides_say_its_types(account: ProbeAccount) -> None:
    named = {"LaunchTemplateId": _plain_template(account), "Version": "$Default"}
    capacity = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"}

    def fleet(*overrides: dict[str, Any]) -> Any:
        return account.ec2.create_fleet(Type="instant", TargetCapacitySpecification=capacity, LaunchTemplateConfigs=[
            {"LaunchTemplateSpecification": named, "Overrides": list(overrides)}])

    refused("InvalidFleetConfig", fleet)
    with pytest.raises(ClientError, match="exclude each other"):
        fleet({"InstanceType": TYPE, "InstanceRequirements": NEED})
    assert _launched(account) == []
    fleet({"InstanceRequirements": NEED})
    assert [name.partition(".")[0] for name in _launched(account)] == ["m7i"]
