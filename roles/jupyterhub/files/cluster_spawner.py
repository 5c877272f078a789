"""A spawner of JupyterHub that runs each user's server on an EC2 machine of its own.

The machine comes from an image's launch template and is identified by its tags, so that a restarted
hub finds it. The user's home is an EBS volume that the hub attaches.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import html
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from jupyterhub.spawner import Spawner
from traitlets import Dict, Integer, List, Unicode, default

PORT, LOOK_S = 8888, 3.0
SERVER, IDLE = "/etc/jupyter-machine.json", "/etc/golden-idle.local.json"
NEW, ENDED = "goldenami:new", "goldenami:ended"
"""Tags: NEW is on a home that no machine has had, which may be deleted; ENDED says on a machine why
golden_idle ended it."""
NO_CAPACITY = {
    "InsufficientInstanceCapacity": "EC2 has none left",
    "Unsupported": "EC2 does not have it there",
    "InsufficientFreeAddressesInSubnet": "the subnet has no address left",
}
"""Error codes after which another zone may have a machine, with texts for users (EC2's page "Error
codes")."""
REASONS = {
    "Client.InstanceInitiatedShutdown": "it was shut down from within",
    "Client.UserInitiatedShutdown": "somebody ended it, you or an administrator",
    "Server.SpotInstanceTermination": "EC2 took it back (Spot)",
}
"""Texts for users by the code of EC2's StateReason."""


class SpawnError(Exception):
    """A failure in one line, which the user's page shows. `elsewhere`: another zone may succeed."""

    def __init__(self, text: str, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self.jupyterhub_message, self.elsewhere = text, elsewhere


CALLS = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 5}
)


@functools.cache
def client(service: str, region: str) -> Any:
    """Return a client, which several threads may use."""
    return boto3.session.Session().client(service, region, config=CALLS)


def call(service: str, region: str, name: str, **named: Any) -> Any:
    """Return AWS's answer. Raises SpawnError without the request, which may hold a token."""
    try:
        return getattr(client(service, region), name)(**named)
    except (BotoCoreError, ClientError) as error:
        details = getattr(error, "response", {}).get("Error", {})
        code = details.get("Code", type(error).__name__)
        if code in NO_CAPACITY:
            raise SpawnError(NO_CAPACITY[code], elsewhere=True) from None
        text = " ".join(str(details.get("Message") or error).split())
        raise SpawnError(f"AWS refuses {name}: {code}: {text}") from None


def tag(resource: dict[str, Any], key: str) -> str:
    """Return the value of a tag, or "" if there is none."""
    return next((entry["Value"] for entry in resource.get("Tags", []) if entry["Key"] == key), "")


def quoted(value: str) -> str:
    """Return a filter's value without wildcards: EC2 takes `*` and `?` for such ("Filter your
    resources")."""
    return re.sub(r"[*?\\]", r"\\\g<0>", value)


def why(machine: dict[str, Any]) -> str:
    """Return a line that says how a machine ended."""
    reason = machine.get("StateReason", {})
    text = (
        tag(machine, ENDED)
        or REASONS.get(reason.get("Code", ""))
        or reason.get("Message")
        or f"it is {machine['State']['Name']}"
    )
    return f"Your last machine, {machine['InstanceId']}, ended: {text}."


@functools.cache
def price(kind: str, region: str) -> str:
    """Return the on-demand price of an hour, in words."""
    attributes = {
        "instanceType": kind,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in attributes.items()
    ]
    try:
        answer = call(
            "pricing", "us-east-1", "get_products", ServiceCode="AmazonEC2", Filters=filters
        )
        # The filters leave one product, which has one term and one rate.
        [term] = json.loads(answer["PriceList"][0])["terms"]["OnDemand"].values()
        [rate] = term["priceDimensions"].values()
        return f"${float(rate['pricePerUnit']['USD']):.2f} an hour"
    except (SpawnError, ValueError, LookupError):
        return "price unknown"


class ClusterSpawner(Spawner):
    """The spawner: one machine for one server."""

    region = Unicode(help="The hub's.").tag(config=True)
    template = Unicode(help="Launch template; its default version is used.").tag(config=True)
    types = List(Unicode(), minlen=1, help="Instance types to choose from.").tag(config=True)
    subnets = List(Unicode(), minlen=1, help="Tried in this order.").tag(config=True)
    security_groups = List(Unicode(), help="Of the machines.").tag(config=True)
    home_gib = Integer(20, min=1, help="GiB of a new home.").tag(config=True)
    notices = Unicode(help="Whom golden_idle tells before it ends a machine.").tag(config=True)
    keep = Unicode(help="Where golden_idle copies ~/keep to, s3://BUCKET/TEAM.").tag(config=True)
    warm = Dict(Integer(min=0), help="How many of a type wait for users.").tag(config=True)
    hub_name = Unicode("notebooks", help="Tells machines and homes of hubs apart.").tag(config=True)

    pool: Any = None  # the hub's WarmMachines
    machine, ended, stops = "", "", 0
    progress_lines: list[str]

    @default("options_form")
    def _form(self) -> Any:
        return type(self).form

    @default("options_from_form")
    def _chosen(self) -> Any:
        return lambda form: {"type": form.get("type", [""])[0]}

    @property
    def _tags(self) -> dict[str, str]:
        return {
            "goldenami:hub": self.hub_name,
            "goldenami:user": self.user.name,
            "goldenami:server": self.name or "-",
        }

    def _tagged(self, kind: str, **more: str) -> list[dict[str, Any]]:
        tags = {**self._tags, **more}
        return [
            {
                "ResourceType": kind,
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ]

    async def _ours(self, name: str, key: str) -> list[dict[str, Any]]:
        """Return the resources that AWS lists below `key` with this server's tags."""
        filters = [
            {"Name": f"tag:{tag_name}", "Values": [quoted(value)]}
            for tag_name, value in self._tags.items()
        ]
        resources = []
        for row in (await self._ec2(name, Filters=filters))[key]:
            resources += row.get("Instances", [row])
        # Compared once more: a wildcard that got through would end another user's machine.
        return [entry for entry in resources if self._has_tags(entry)]

    def _has_tags(self, resource: dict[str, Any]) -> bool:
        return all(tag(resource, tag_name) == value for tag_name, value in self._tags.items())

    async def _ec2(self, name: str, **named: Any) -> Any:
        """Call EC2 in a thread: boto3 would block the hub's event loop."""
        return await asyncio.to_thread(call, "ec2", self.region, name, **named)

    async def _machines(self) -> list[dict[str, Any]]:
        """Return this server's machines, the newest first. EC2 shows a machine for an hour after
        its end."""
        machines = await self._ours("describe_instances", "Reservations")
        return sorted(machines, key=lambda machine: str(machine["LaunchTime"]), reverse=True)

    def _report(self, text: str) -> None:
        if text not in self.progress_lines:
            self.log.info("%s: %s", self._log_name, text)
            self.progress_lines.append(text)

    async def form(self) -> str:
        """Return the form: the types with their prices, and how the last machine ended."""
        lines = [
            f"<p>{html.escape(self.ended)}</p>",
            '<label for="type">Your machine</label>',
            '<select class="form-control" id="type" name="type">',
        ]
        prices = [asyncio.to_thread(price, kind, self.region) for kind in self.types]
        for kind, cost in zip(
            map(html.escape, self.types), await asyncio.gather(*prices), strict=True
        ):
            lines.append(f'<option value="{kind}">{kind}: {cost}</option>')
        return "\n".join([*lines[not self.ended :], "</select>"])

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the steps of the start as they happen."""
        yielded = 0
        while True:
            for text in self.progress_lines[yielded:]:
                yielded += 1
                yield {"progress": min(90, 15 * yielded), "message": text}
            await asyncio.sleep(1)

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the last machine and how it ended from the hub's database."""
        super().load_state(state)
        self.machine, self.ended = state.get("machine", ""), state.get("ended", "")

    def get_state(self) -> dict[str, Any]:
        """Return the state for the hub's database. The machine and its end outlive the server: the
        next start needs them."""
        return {**super().get_state(), "machine": self.machine, "ended": self.ended}

    async def start(self) -> tuple[str, int]:
        """Launch the machine and attach the home. Return the address and port of the server."""
        self.progress_lines, self.ended = [], ""
        kind = self.user_options.get("type") or self.types[0]
        if kind not in self.types:
            raise SpawnError(f"`{kind}` is not offered: choose one of {', '.join(self.types)}.")
        if not self.security_groups:
            raise SpawnError(
                "The hub has no security group for machines: an administrator names "
                "one in /etc/jupyterhub/cluster.py."
            )
        # A hub that ended during a start has left its machine.
        await self._end("is of an earlier start, and ends")
        claimed = await self._claim(kind) if self.pool else None
        machine, home = claimed or await self._launch(kind)
        self.machine, zone = machine["InstanceId"], machine["Placement"]["AvailabilityZone"]
        self._report(f"{self.machine} ({kind}) {'was warm' if claimed else 'starts'} in {zone}")
        await self._ready(machine["State"]["Name"], home)
        boots = "The machine boots, then starts the notebook server"
        self._report("The notebook server starts" if claimed else boots)
        return machine["PrivateIpAddress"], PORT

    async def _claim(self, instance_type: str) -> tuple[dict[str, Any], str] | None:
        """Return a warm machine, from now on this server's, and the home's volume id; or None."""
        homes, home_zone = await self._homes()
        if not (machine := await self.pool.take(instance_type, home_zone)):
            return None
        home = await self._home(machine["Placement"]["AvailabilityZone"], homes)
        # Without the hub's, which is the first: a hub can take no machine of another.
        tags = self._tagged("instance", Name=self._title)[0]["Tags"][1:]
        try:
            # From here on the machine is this server's, whatever happens to the hub.
            await self._ec2("create_tags", Resources=[machine["InstanceId"]], Tags=tags)
            await self.pool.hand_over(machine, self._files(home))
        except SpawnError as error:
            self.log.warning("%s: launches a machine: %s", self._log_name, error)
            await self._end("was warm and took no user, and ends")
            return None
        return machine, home

    async def _homes(self) -> tuple[list[dict[str, Any]], str]:
        """Return the home and its zone; before the first start, blank homes and ""."""
        homes = await self._ours("describe_volumes", "Volumes")
        used_homes = [volume for volume in homes if not tag(volume, NEW)]
        if len(used_homes) > 1:
            names = ", ".join(volume["VolumeId"] for volume in used_homes)
            raise SpawnError(
                f"You have several homes, {names}: an administrator has to take the "
                "tags off all but one."
            )
        return (used_homes, used_homes[0]["AvailabilityZone"]) if used_homes else (homes, "")

    async def _home(self, zone: str, homes: list[dict[str, Any]]) -> str:
        """Return the id of the home in a zone, which is made if there is none."""
        here = [volume["VolumeId"] for volume in homes if volume["AvailabilityZone"] == zone]
        return here[0] if here else await self._make(zone)

    async def _launch(self, instance_type: str) -> tuple[dict[str, Any], str]:
        """Launch a machine in the first zone that has one. Return it, and the home's volume id."""
        subnets = (await self._ec2("describe_subnets", SubnetIds=list(self.subnets)))["Subnets"]
        zones = {row["SubnetId"]: row["AvailabilityZone"] for row in subnets}
        homes, home_zone = await self._homes()
        tried = []
        for subnet in self.subnets:
            zone = zones[subnet]
            # A volume can be attached only in its own zone.
            if home_zone not in ("", zone):
                continue
            home = await self._home(zone, homes)
            files, name = self._files(home), {"Name": self._title}
            request = self._request(instance_type, subnet, files, name)
            try:
                answer = await self._ec2("run_instances", **request)
                return answer["Instances"][0], home
            except SpawnError as error:
                if not error.elsewhere:
                    raise
                tried.append(zone)
                self._report(f"No {instance_type} in {zone}: {error}")
        where = f"; your home is in {home_zone}" if home_zone else ""
        raise SpawnError(
            f"No {instance_type} now in {', '.join(tried) or 'any subnet'}{where}. "
            "Choose another type, or try again later."
        )

    async def _make(self, zone: str) -> str:
        """Make a blank home and return its id. It loses the tag NEW before a machine gets it."""
        volume = await self._ec2(
            "create_volume",
            AvailabilityZone=zone,
            Size=self.home_gib,
            VolumeType="gp3",
            Encrypted=True,
            TagSpecifications=self._tagged("volume", **{NEW: "yes"}),
        )
        return str(volume["VolumeId"])

    @property
    def _title(self) -> str:
        return f"{self.hub_name} {self.user.name}"

    def _files(self, home: str) -> dict[str, Any]:
        """Return the files of the user's machine. The token in one is of this one server."""
        env = {name: value for name, value in self.get_env().items() if name.startswith("JUPYTER")}
        argv = [*self.cmd, *self.get_args()]
        files = {SERVER: {"user": self.user.name, "home": home, "env": env, "argv": argv}}
        idle = {"keep": self.keep} if self.keep else {}
        if self.notices:
            idle |= {"action": "poweroff", "target": self.notices}
        return {**files, IDLE: idle} if idle else files

    def _request(
        self, instance_type: str, subnet: str, files: dict[str, Any], tags: dict[str, str]
    ) -> dict[str, Any]:
        write_files = [
            {"path": path, "permissions": "0600", "content": json.dumps(content)}
            for path, content in files.items()
        ]
        return {
            "LaunchTemplate": {"LaunchTemplateName": self.template, "Version": "$Default"},
            "InstanceType": instance_type,
            "SubnetId": subnet,
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": list(self.security_groups),
            # A machine that golden_idle powers off is terminated, and costs nothing more.
            "InstanceInitiatedShutdownBehavior": "terminate",
            # JSON is YAML. Only root reads the files.
            "UserData": f"#cloud-config\n{json.dumps({'write_files': write_files})}\n",
            "TagSpecifications": self._tagged("instance", **tags),
        }

    async def _ready(self, state: str, home: str) -> None:
        """Wait for the machine, and for the home if another machine still has it; then attach the
        home."""
        text = ""
        while state == "pending":
            await asyncio.sleep(LOOK_S)
            for resource in await self._machines():
                if resource["InstanceId"] == self.machine:
                    state, text = resource["State"]["Name"], why(resource)
        if state != "running":
            raise SpawnError(text)
        while True:
            [volume] = (await self._ec2("describe_volumes", VolumeIds=[home]))["Volumes"]
            if volume["State"] == "available":
                break
            if volume["State"] == "in-use":
                self._report(f"Your home, {home}, is still at another machine")
            await asyncio.sleep(LOOK_S)
        # Before the attachment, so that nobody deletes a home that a machine has written to.
        await self._ec2("delete_tags", Resources=[home], Tags=[{"Key": NEW}])
        await self._ec2("attach_volume", VolumeId=home, InstanceId=self.machine, Device="/dev/sdh")
        for resource in await self._ours("describe_volumes", "Volumes"):
            # Blank homes that were made in a zone that had no machine.
            if tag(resource, NEW) and resource["VolumeId"] != home:
                await self._ec2("delete_volume", VolumeId=resource["VolumeId"])

    async def get_url(self) -> str:
        """Return the server's URL, also if the hub ended before it had stored the URL."""
        with contextlib.suppress(SpawnError):  # a hub has to start even if AWS does not answer
            for machine in await self._machines():
                if machine.get("PrivateIpAddress"):
                    return f"http://{machine['PrivateIpAddress']}:{PORT}"
        return str(self.server.url)

    async def poll(self) -> int | None:
        """Return None while the machine runs, else 1. The next form then says how the machine
        ended."""
        stops = self.stops
        try:
            machines = await self._machines()
        except SpawnError as error:
            # The server counts as running: nobody shall lose it because AWS does not answer.
            self.log.warning("%s: is the machine there? %s", self._log_name, error)
            return None
        # Any of them: times of launch are whole seconds, in which one may end and the next begin.
        if any(machine["State"]["Name"] in ("pending", "running") for machine in machines):
            return None
        if stops != self.stops:
            # stop() ended it while EC2 was asked. JupyterHub would stop the user's next server.
            return None
        self.ended = (
            why(machines[0]) if machines else f"Your last machine, {self.machine}, is gone."
        )
        self.log.warning("%s: %s", self._log_name, self.ended)
        return 1

    async def _end(self, reason: str) -> bool:
        """Terminate this server's machines. Return whether there was one."""
        ended = False
        for machine in await self._machines():
            if machine["State"]["Name"] not in ("shutting-down", "terminated"):
                self.machine, ended = machine["InstanceId"], True
                self.log.info("%s: %s %s", self._log_name, self.machine, reason)
                await self._ec2("terminate_instances", InstanceIds=[self.machine])
        return ended

    async def stop(self, now: bool = False) -> None:
        """Terminate the machine. The next form says if its server never answered."""
        self.stops += 1
        starting = self._spawn_future is not None and not self._spawn_future.done()
        if await self._end("ends with its server") and starting:
            self.ended = f"Your last machine, {self.machine}, gave no server, and was ended."
