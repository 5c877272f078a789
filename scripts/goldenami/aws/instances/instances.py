"""A temporary instance: launched from an AMI with a key and a security group of its own, and
removed afterwards.

Everything created here is tagged with an owner and a date of expiry, so that `golden sweep` finds
what a killed run leaves.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from goldenami.aws import refusals, tags
from goldenami.aws.calls import NOT_YET, pages, tolerate, wait_for
from goldenami.aws.images import Image
from goldenami.aws.refusals import Instead, Refusal
from goldenami.aws.session import Client, code, translate
from goldenami.aws.tags import Tags
from goldenami.core.errors import BadInput, StageFailed

SSH, SSH_FROM = 22, "GOLDEN_SSH_FROM"
_SPOT = {
    "MarketType": "spot",
    "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
}
SHOWN_S = 10.0
"""Seconds for which EC2 may not show an instance that it has launched ("Eventual consistency in the
Amazon EC2 API": a couple of seconds at first)."""
LIMIT_S, POLL_S = 600.0, 3.0
"""Seconds to wait for an instance, which runs within a minute and terminates within two or three;
and between polls."""


_ALIVE = ("pending", "running", "shutting-down", "stopping", "stopped")


class NotLaunched(StageFailed):
    """EC2 refused to launch an instance type. `refusal` says what to try instead."""

    def __init__(self, message: str, refusal: Refusal) -> None:
        super().__init__(message, hint=refusal.hint)
        self.refusal = refusal


class StillRuns(StageFailed):
    """An instance could not be terminated, and still costs money."""


class SpotInterrupted(StageFailed):
    """EC2 took a Spot instance back, which says nothing about the image."""


INTERRUPTED = "Server.SpotInstanceTermination"
"""EC2's reason code for a Spot instance that it took back ("Troubleshoot terminated instances")."""


@dataclass(frozen=True)
class Subnet:
    """A subnet that the definition names, and its VPC."""

    id: str
    vpc: str


@dataclass(frozen=True)
class Launch:
    """A request for an instance.

    `name` is also that of its key and security group, `volume_gib` the size of its root volume.
    `tags` are put on everything that is created. `zone` is an availability zone, or "" for any;
    `subnet` None means the default VPC's; `user_data` is for cloud-init. `told` describes the
    instance and its price in messages.
    """

    name: str
    image: Image
    instance_type: str
    public_key: Path
    volume_gib: int
    tags: Tags
    spot: bool = False
    zone: str = ""
    subnet: Subnet | None = None
    user_data: str = ""
    told: str = "price unknown"


@dataclass(frozen=True)
class LaunchedInstance:
    """A running instance, and the address at which it can be reached."""

    id: str
    address: str


def ends_after(minutes: int) -> str:
    """User data by which a machine powers itself off, in case nobody is left who does."""
    # bootcmd runs before the bus: `shutdown -P +30` does not find logind, and powers off at once. A
    # timer with its usual dependencies would wait for sysinit.target, which waits for bootcmd.
    timer = f"--on-active={minutes}min, --timer-property=DefaultDependencies=no"
    return f"#cloud-config\nbootcmd: [[systemd-run, {timer}, systemctl, poweroff]]\n"


def ssh_from() -> str:
    """The IPv4 network from which SSH is allowed: GOLDEN_SSH_FROM, or any."""
    # Any by default, because nothing here can tell the address by which EC2 sees this machine.
    text = os.environ.get(SSH_FROM) or "0.0.0.0/0"
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise BadInput(
            f"{SSH_FROM}: {error}", hint="give an IPv4 network, such as 203.0.113.7/32"
        ) from None


def subnets(ec2: Client, names: Sequence[str]) -> dict[str, Subnet]:
    """By zone, the subnet with the most free addresses among those with these ids or tags `Name`.
    Raises BadInput if the region has none of them."""
    rows = list[dict[str, Any]]()
    for fact in ("subnet-id", "tag:Name"):
        if names:
            subnet_filter = {"Name": fact, "Values": list(names)}
            rows += pages(ec2, "describe_subnets", "Subnets", Filters=[subnet_filter])
    if names and not rows:
        raise BadInput(
            f"{ec2.meta.region_name} has no subnet {' or '.join(names)}",
            hint="correct `publish: subnets:`: ids, or values of the tag Name",
        )
    # Ascending, because in the dict the last subnet of a zone wins.
    rows.sort(key=lambda row: int(row["AvailableIpAddressCount"]))
    return {row["AvailabilityZone"]: Subnet(row["SubnetId"], row["VpcId"]) for row in rows}


@contextlib.contextmanager
def access(
    ec2: Client,
    name: str,
    public_key: Path,
    own_tags: Tags,
    vpc: str = "",
) -> Iterator[str]:
    """Create a key pair and a security group that allows SSH, both called `name`, and remove them
    after the context. Yields the group's id. `vpc` is the group's VPC, or "" for the default one.
    """
    network = ssh_from()
    with contextlib.ExitStack() as stack:
        # No other run has this name: duplicates are from calls of ours whose answers were lost.
        stack.callback(_remove, ec2.delete_key_pair, KeyName=name)
        with tolerate(".Duplicate"):
            ec2.import_key_pair(
                KeyName=name,
                PublicKeyMaterial=public_key.read_bytes(),
                TagSpecifications=tags.specifications(own_tags, "key-pair"),
            )
        network_of = {"VpcId": vpc} if vpc else {}
        group = _make_group(
            ec2,
            GroupName=name,
            Description="SSH to an image that is being made or verified",
            TagSpecifications=tags.specifications(own_tags, "security-group"),
            **network_of,
        )
        stack.callback(_remove, ec2.delete_security_group, GroupId=group)
        with tolerate(".Duplicate"):
            ec2.authorize_security_group_ingress(
                GroupId=group,
                IpPermissions=[
                    {
                        "IpProtocol": "tcp",
                        "FromPort": SSH,
                        "ToPort": SSH,
                        "IpRanges": [{"CidrIp": network}],
                    }
                ],
            )
        yield group


def _make_group(ec2: Client, **arguments: Any) -> str:
    """Create a security group, and return its id or that of the group that exists by this name."""
    name = arguments["GroupName"]
    try:
        with tolerate(".Duplicate"), _refusals("makes no security group", ec2.meta.region_name):
            return str(ec2.create_security_group(**arguments)["GroupId"])
    except BotoCoreError:
        # EC2 may have made it all the same.
        if group := _group_called(ec2, name, limit_s=SHOWN_S):
            _remove(ec2.delete_security_group, GroupId=group)
        raise
    return str(_group_called(ec2, name))


def _group_called(ec2: Client, name: str, *, limit_s: float | None = None) -> str | None:
    """The id of the security group of that name, or None if EC2 shows none in time."""
    # A filter, because the parameter GroupNames finds groups of the default VPC only.
    filters = [{"Name": "group-name", "Values": [name]}]
    groups = wait_for(
        lambda: ec2.describe_security_groups(Filters=filters)["SecurityGroups"] or None,
        limit_s=limit_s,
        pauses=POLL_S,
    )
    return str(groups[0]["GroupId"]) if groups else None


@contextlib.contextmanager
def running(ec2: Client, launch: Launch) -> Iterator[LaunchedInstance]:
    """Launch an instance, yield it when EC2 calls it running, and remove everything afterwards,
    whatever happens."""
    vpc = launch.subnet.vpc if launch.subnet else ""
    with access(ec2, launch.name, launch.public_key, launch.tags, vpc) as group:
        try:
            instance = _launch(ec2, launch, group)
        except BotoCoreError:
            _end_unanswered(ec2, launch)
            raise
        try:
            _await_running(ec2, launch, instance)
            yield LaunchedInstance(instance, _address(ec2, launch, instance))
        finally:
            _end(ec2, launch, instance)


def _end_unanswered(ec2: Client, launch: Launch) -> None:
    """Terminate what EC2 launched if no answer of it arrived. Its key pair is its own."""

    def launched() -> list[str] | None:
        rows = pages(
            ec2,
            "describe_instances",
            "Reservations",
            Filters=[{"Name": "key-name", "Values": [launch.name]}],
        )
        return [
            row["InstanceId"] for reservation in rows for row in reservation["Instances"]
        ] or None

    for instance in wait_for(launched, limit_s=SHOWN_S, pauses=POLL_S) or []:
        _end(ec2, launch, instance)


def _end(ec2: Client, launch: Launch, instance: str) -> None:
    """Terminate the instance. Raises StillRuns, with the error before it, if that fails."""
    before = sys.exc_info()[1]
    try:
        terminate(ec2, instance)
    except (ClientError, BotoCoreError, StageFailed) as error:
        region = ec2.meta.region_name
        raise StillRuns(
            f"{instance} ({launch.told}) may still run in {region}: {translate(error).message}",
            hint=f"`aws ec2 terminate-instances --region {region} --instance-ids "
            f"{instance}` ends it, "
            "`golden sweep` does when it has expired",
            tail=f"before that: {before}" if before else "",
        ) from error


def _await_running(ec2: Client, launch: Launch, instance: str) -> None:
    state = _state_after(ec2, instance, "pending")
    if state != "running":
        _check_kept(ec2, launch, instance)
        raise StageFailed(
            f"{instance} is {state} and was to run: {ended_by(ec2, instance)}",
            hint="look at it in the console, then run again",
        )


def _state_after(ec2: Client, instance: str, *before: str) -> str:
    """Wait until the instance's state is none of `before`, and return the state seen last."""
    seen = ""

    def has_left() -> bool | None:
        nonlocal seen
        seen = describe(ec2, instance)["State"]["Name"]
        return seen not in before or None

    wait_for(has_left, limit_s=LIMIT_S, pauses=POLL_S, what=f"{instance} is {before[0]}")
    return seen


def _check_kept(ec2: Client, launch: Launch, instance: str) -> None:
    """Raise SpotInterrupted or NotLaunched if EC2 itself ended an instance that it had launched."""
    why = ended_by(ec2, instance)
    message = f"EC2 launched {launch.instance_type} and ended it at once: {why}"
    if why == INTERRUPTED:
        raise SpotInterrupted(message, hint="another zone, region or type may do") from None
    if refusal := refusals.find("RunInstances", why.removeprefix("Server.")):
        raise NotLaunched(message, refusal) from None


@contextlib.contextmanager
def _refusals(does: str, place: str) -> Iterator[None]:
    """Raise NotLaunched for an error of EC2 in the block after which something else may be
    tried."""
    try:
        yield
    except ClientError as error:
        refusal = refusals.find(error.operation_name, code(error))
        if refusal and refusal.instead is not Instead.THE_SAME:
            raise NotLaunched(f"EC2 {does} in {place}: {code(error)}", refusal) from error
        raise


def _launch(ec2: Client, launch: Launch, group: str) -> str:
    device = str(launch.image.raw["RootDeviceName"])
    options = dict[str, Any]()
    if launch.spot:
        options["InstanceMarketOptions"] = _SPOT
    if launch.subnet:
        options["SubnetId"] = launch.subnet.id
    elif launch.zone:
        options["Placement"] = {"AvailabilityZone": launch.zone}
    if launch.user_data:
        options["UserData"] = launch.user_data
    with _refusals(f"launches no {launch.instance_type}", launch.zone or ec2.meta.region_name):
        answer = ec2.run_instances(
            ImageId=launch.image.ami,
            InstanceType=launch.instance_type,
            MinCount=1,
            MaxCount=1,
            KeyName=launch.name,
            SecurityGroupIds=[group],
            ClientToken=launch.name,  # a repeated call launches no second instance
            InstanceInitiatedShutdownBehavior="terminate",
            # The metadata service answers requests with session tokens only (IMDSv2).
            MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled"},
            BlockDeviceMappings=[
                {
                    "DeviceName": device,
                    "Ebs": {"VolumeSize": launch.volume_gib, "DeleteOnTermination": True},
                }
            ],
            TagSpecifications=tags.specifications(launch.tags, "instance", "volume"),
            **options,
        )
    return str(answer["Instances"][0]["InstanceId"])


def describe(ec2: Client, instance: str) -> dict[str, Any]:
    """Describe an instance. EC2 may not know it yet if it was launched a moment ago."""
    answer = wait_for(lambda: ec2.describe_instances(InstanceIds=[instance]), *NOT_YET)
    return dict(answer["Reservations"][0]["Instances"][0])


def ended_by(ec2: Client, instance: str) -> str:
    """EC2's code for why an instance ended, or ""."""
    return str(describe(ec2, instance).get("StateReason", {}).get("Code", ""))


def _address(ec2: Client, launch: Launch, instance: str) -> str:
    """The public address, or the private one if the subnet gives no public one."""
    described = describe(ec2, instance)
    address = described.get("PublicIpAddress") or described.get("PrivateIpAddress")
    if not address:
        _check_kept(ec2, launch, instance)
        raise StageFailed(f"{instance} has no address", hint="its subnet has to give one")
    return str(address)


def terminate(ec2: Client, instance: str) -> None:
    """Terminate an instance, if there is one of that id, and wait until it is terminated."""
    # An instance that was launched a moment ago may be unknown for a while, and must not be left.
    with tolerate(*NOT_YET):
        wait_for(lambda: ec2.terminate_instances(InstanceIds=[instance]), *NOT_YET)
        state = _state_after(ec2, instance, *_ALIVE)
        if state != "terminated":
            raise StageFailed(
                f"{instance} is {state} {LIMIT_S:.0f} s after it was to terminate",
                hint="run again; look at it in the console",
            )


def _remove(call: Callable[..., object], **arguments: object) -> None:
    """Remove a key pair or security group, which may be gone already."""
    # An instance that still runs needs it: `golden sweep` removes both later.
    if isinstance(sys.exc_info()[1], StillRuns):
        return
    with tolerate(".NotFound"):
        call(**arguments)
