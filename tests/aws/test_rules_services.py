"""What the emulator's Spot requests, prices, commands, signatures and stacks are."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from support.aws.emulator_probe import OTHER_REGION, REGION, TYPE, ProbeAccount, probe, refused
from support.waiting import until

ROLE = "arn:aws:iam::123456789012:role/fleet"
INSTANCE = "i-0123456789abcdef0"


@probe("get_products")
def test_the_price_list_has_what_all_filters_match(account: ProbeAccount) -> None:
    prices = {"*": {"g5.xlarge": 1.006, "g6.xlarge": 0.8}, OTHER_REGION: {"g5.xlarge": 1.123}}
    account.set(usd_hour=prices, page_most=2)
    pages = account.client("pricing").get_paginator("get_products").paginate(
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "g5.xlarge"}])
    products = [[json.loads(text) for text in page["PriceList"]] for page in pages]
    assert [len(page) for page in products] == [2, 2, 1]
    found = {product["product"]["attributes"]["regionCode"]: product
             for page in products for product in page}
    rate = found[OTHER_REGION]["terms"]["OnDemand"]["T"]["priceDimensions"]["D"]
    assert (len(found), float(rate["pricePerUnit"]["USD"]), rate["unit"]) == (5, 1.123, "Hrs")


@probe("describe_spot_price_history")
def test_a_spot_price_is_of_a_zone_and_below_the_price_on_demand(account: ProbeAccount) -> None:
    account.set(usd_hour={"*": {"g5.xlarge": 1.0}}, usd_spot={f"{REGION}a": 0.25})
    rows = account.ec2.describe_spot_price_history(
        InstanceTypes=["g5.xlarge", "g6.xlarge"])["SpotPriceHistory"]
    assert {row["InstanceType"] for row in rows} == {"g5.xlarge"}
    prices = {row["AvailabilityZone"]: float(row["SpotPrice"]) for row in rows}
    assert prices.pop(f"{REGION}a") == 0.25
    assert set(prices.values()) == {0.4}


@probe("take_back")
def test_a_spot_instance_is_taken_back_with_its_reason(account: ProbeAccount) -> None:
    account.set(spot_taken=1)
    image = account.image()
    first, second = (account.launch(ImageId=image, InstanceMarketOptions={"MarketType": "spot"})[
        "InstanceId"] for _ in range(2))

    def reason(instance: str) -> str:
        reservations = account.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
        code: str = reservations[0]["Instances"][0].get("StateReason", {}).get("Code", "")
        return code

    account.ec2.get_waiter("instance_terminated").wait(
        InstanceIds=[first], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert reason(first) == "Server.SpotInstanceTermination"
    assert reason(second) != "Server.SpotInstanceTermination"


def spot_fleet(account: ProbeAccount, capacity: int, **config: Any) -> str:
    asked = {"IamFleetRole": ROLE, "TargetCapacity": capacity, **config}
    made: str = account.ec2.request_spot_fleet(SpotFleetRequestConfig=asked)["SpotFleetRequestId"]
    return made


@probe("describe_spot_fleet_requests")
def test_spot_fleets_come_in_pages_and_stay_after_their_end(account: ProbeAccount) -> None:
    launch = {"LaunchSpecifications": [{"ImageId": account.image(), "InstanceType": TYPE}]}
    fleets = [spot_fleet(account, 1, **launch) for _ in range(3)]
    for fleet, terminate in zip(fleets, (False, True), strict=False):
        account.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet],
                                               TerminateInstances=terminate)
    pages = list(account.ec2.get_paginator("describe_spot_fleet_requests").paginate(
        PaginationConfig={"PageSize": 2}))
    states = [each["SpotFleetRequestState"] for page in pages
              for each in page["SpotFleetRequestConfigs"]]
    assert [len(page["SpotFleetRequestConfigs"]) for page in pages] == [2, 1]
    assert states == ["cancelled_running", "cancelled_terminating", "active"]
    requests = account.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert sorted(each["State"] for each in requests) == ["active", "cancelled", "cancelled"]


@probe("launched_by")
def test_a_spot_fleet_launches_from_the_version_it_names(account: ProbeAccount) -> None:
    first, second = account.image("one"), account.image("two")
    template = account.template(ImageId=first, InstanceType=TYPE)
    account.ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={
        "ImageId": second, "InstanceType": TYPE})
    named = {"LaunchTemplateId": template, "Version": "1"}
    types = ("c7i.xlarge", "c7i.2xlarge")
    configs = [{"LaunchTemplateSpecification": named,
                "Overrides": [{"InstanceType": name} for name in types]}]
    fleet = spot_fleet(account, 2, AllocationStrategy="diversified", LaunchTemplateConfigs=configs)
    (described,) = account.ec2.describe_spot_fleet_requests(
        SpotFleetRequestIds=[fleet])["SpotFleetRequestConfigs"]
    assert described["SpotFleetRequestConfig"]["LaunchTemplateConfigs"] == configs
    launched = {(each["ImageId"], each["InstanceType"])
                for one in account.ec2.describe_instances()["Reservations"]
                for each in one["Instances"]}
    assert launched == {(first, name) for name in types}


@probe("state_of", "request_spot_instances")
def test_a_spot_request_is_what_its_time_and_its_instance_are(account: ProbeAccount) -> None:
    device = {"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": account.snapshot()}}
    launch = {"ImageId": account.image(), "InstanceType": TYPE, "BlockDeviceMappings": [device]}
    ids = []
    for more in ({"ValidFrom": datetime.now(UTC) + timedelta(days=1)}, {"Type": "persistent"}, {}):
        made = account.ec2.request_spot_instances(LaunchSpecification=launch, **more)
        ids.append(made["SpotInstanceRequests"][0]["SpotInstanceRequestId"])

    def requests() -> list[dict[str, Any]]:
        found = account.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
        return sorted(found, key=lambda each: ids.index(each["SpotInstanceRequestId"]))

    early, kept, ended = requests()
    assert [each["State"] for each in (early, kept, ended)] == ["open", "active", "active"]
    assert kept["LaunchSpecification"]["BlockDeviceMappings"] == [device]
    account.ec2.stop_instances(InstanceIds=[kept["InstanceId"]])
    account.ec2.terminate_instances(InstanceIds=[ended["InstanceId"]])
    assert [each["State"] for each in requests()] == ["open", "disabled", "closed"]


@probe("kept")
def test_what_a_command_printed_is_kept_in_part(account: ProbeAccount) -> None:
    account.set(agents={INSTANCE: ["sh", "-c"]})
    text = "head -c 30000 /dev/zero | tr '\\0' x; head -c 9000 /dev/zero >&2; exit 3"
    sent = account.ssm.send_command(InstanceIds=[INSTANCE], DocumentName="AWS-RunShellScript",
                                    Parameters={"commands": [text]})

    def ended() -> Any:
        answer = account.ssm.get_command_invocation(CommandId=sent["Command"]["CommandId"],
                                                    InstanceId=INSTANCE)
        return answer if answer["Status"] != "InProgress" else None

    answer = until("the end of the command", ended)
    assert (answer["Status"], answer["ResponseCode"]) == ("Failed", 3)
    assert answer["StandardOutputContent"] == "x" * 24_000
    assert len(answer["StandardErrorContent"]) == 8_000


@probe("signed_as_it_is")
def test_a_digest_is_signed_as_it_is(account: ProbeAccount) -> None:
    kms, message = account.client("kms"), b"what is signed"
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public, EllipticCurvePublicKey)
    refused("ValidationException", kms.sign, KeyId=key, SigningAlgorithm="ECDSA_SHA_256",
            MessageType="DIGEST", Message=message)
    for kind, text in (("DIGEST", hashlib.sha256(message).digest()), ("RAW", message)):
        signature = kms.sign(KeyId=key, SigningAlgorithm="ECDSA_SHA_256", MessageType=kind,
                             Message=text)["Signature"]
        public.verify(signature, message, ECDSA(hashes.SHA256()))


@probe("dynamic_reference")
def test_a_template_names_an_image_by_its_parameter(account: ProbeAccount) -> None:
    """As docs/launching.md shows it: what the parameter holds when the stack is made."""
    account.ssm.put_parameter(Name="/p", Value="ami-00000000000000001", Type="String")
    body = {"Resources": {"Template": {"Type": "AWS::EC2::LaunchTemplate", "Properties": {
        "LaunchTemplateName": "by-parameter",
        "LaunchTemplateData": {"ImageId": "{{resolve:ssm:/p:1}}"}}}}}
    cloudformation = account.client("cloudformation")
    made = cloudformation.create_change_set(
        StackName="s", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=json.dumps(body))
    cloudformation.execute_change_set(ChangeSetName=made["Id"])
    (found,) = account.ec2.describe_launch_template_versions(
        LaunchTemplateName="by-parameter")["LaunchTemplateVersions"]
    assert found["LaunchTemplateData"]["ImageId"] == "ami-00000000000000001"
