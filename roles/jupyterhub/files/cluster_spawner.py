"""A spawner of JupyterHub: each user's server on an EC2 machine of its own.

The machine comes from an image's launch template and is known by its tags, so that a hub which was
started again finds it. The user's home is an EBS volume that the hub attaches.
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
from traitlets import Integer, List, Unicode, default

PORT, LOOK_S = 8888, 3.0
SERVER, IDLE = "/etc/jupyter-machine.json", "/etc/golden-idle.local.json"
NEW, ENDED = "goldenami:new", "goldenami:ended"
"""On a home that no machine has had, which may be deleted; on a machine, why golden_idle ended
it."""
NO_CAPACITY = {
    "InsufficientInstanceCapacity": "EC2 has none left",
    "Unsupported": "EC2 does not have it there",
    "InsufficientFreeAddressesInSubnet": "the subnet has no address left",
}
"""After these another zone may have one (EC2's page "Error codes")."""
REASONS = {
    "Client.InstanceInitiatedShutdown": "it was shut down from within",
    "Client.UserInitiatedShutdown": "somebody ended it, you or an administrator",
    "Server.SpotInstanceTermination": "EC2 took it back (Spot)",
}
"""What EC2's StateReason says, in a user's words."""


class SpawnError(Exception):
    """What could not be done, in one line, which the user's page shows."""

    def __init__(self, text: str, *, elsewhere: bool = False) -> None:
        super().__init__(text)
        self.jupyterhub_message, self.elsewhere = text, elsewhere


CALLS = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 5}
)


@functools.cache
def client(service: str, region: str) -> Any:
    """Several threads may use one of these."""
    return boto3.session.Session().client(service, region, config=CALLS)


def call(service: str, region: str, name: str, **named: Any) -> Any:
    """AWS's answer; SpawnError without the request, which may hold a token."""
    try:
        return getattr(client(service, region), name)(**named)
    except (BotoCoreError, ClientError) as error:
        said = getattr(error, "response", {}).get("Error", {})
        code = said.get("Code", type(error).__name__)
        if code in NO_CAPACITY:
            raise SpawnError(NO_CAPACITY[code], elsewhere=True) from None
        text = " ".join(str(said.get("Message") or error).split())
        raise SpawnError(f"AWS refuses {name}: {code}: {text}") from None


def tag(resource: dict[str, Any], key: str) -> str:
    """The value of a tag, empty where there is none."""
    return next((each["Value"] for each in resource.get("Tags", []) if each["Key"] == key), "")


def quoted(value: str) -> str:
    """A filter's value that means itself: EC2 takes `*` and `?` for wildcards ("Filter your
    resources")."""
    return re.sub(r"[*?\\]", r"\\\g<0>", value)


def why(machine: dict[str, Any]) -> str:
    """The line that says how a machine ended."""
    reason = machine.get("StateReason", {})
    said = (
        tag(machine, ENDED)
        or REASONS.get(reason.get("Code", ""))
        or reason.get("Message")
        or f"it is {machine['State']['Name']}"
    )
    return f"Your last machine, {machine['InstanceId']}, ended: {said}."


@functools.cache
def price(kind: str, region: str) -> str:
    """What an hour costs on demand, in words."""
    wanted = {
        "instanceType": kind,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()
    ]
    try:
        found = call(
            "pricing", "us-east-1", "get_products", ServiceCode="AmazonEC2", Filters=filters
        )
        [term] = json.loads(found["PriceList"][0])["terms"]["OnDemand"].values()
        [rate] = term["priceDimensions"].values()
        return f"${float(rate['pricePerUnit']['USD']):.2f} an hour"
    except (SpawnError, ValueError, LookupError):
        return "price unknown"


class ClusterSpawner(Spawner):
    """One machine for one server."""

    region = Unicode(help="The hub's.").tag(config=True)
    template = Unicode(help="Launch template; its default version is used.").tag(config=True)
    types = List(Unicode(), minlen=1, help="Instance types to choose from.").tag(config=True)
    subnets = List(Unicode(), minlen=1, help="Tried in this order.").tag(config=True)
    security_groups = List(Unicode(), help="Of the machines.").tag(config=True)
    home_gib = Integer(20, min=1, help="GiB of a new home.").tag(config=True)
    notices = Unicode(help="Whom golden_idle tells before it ends a machine.").tag(config=True)
    hub_name = Unicode("notebooks", help="Tells machines and homes of hubs apart.").tag(config=True)

    machine, ended = "", ""
    said: list[str]

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
        """What AWS lists below `key` with this server's tags."""
        filters = [
            {"Name": f"tag:{each}", "Values": [quoted(value)]} for each, value in self._tags.items()
        ]
        answer = (await self._ec2(name, Filters=filters))[key]
        found = [each for row in answer for each in row.get("Instances", [row])]
        # Again, since a pattern that got through would end another user's machine.
        return [
            each
            for each in found
            if all(tag(each, known) == value for known, value in self._tags.items())
        ]

    async def _ec2(self, name: str, **named: Any) -> Any:
        """A call beside the hub's own work."""
        return await asyncio.to_thread(call, "ec2", self.region, name, **named)

    async def _machines(self) -> list[dict[str, Any]]:
        """This server's, the newest first; EC2 shows one for an hour after its end."""
        machines = await self._ours("describe_instances", "Reservations")
        return sorted(machines, key=lambda each: str(each["LaunchTime"]), reverse=True)

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.log.info("%s: %s", self._log_name, text)
            self.said.append(text)

    async def form(self) -> str:
        """The types with their prices, and how the last machine ended."""
        lines = [
            f"<p>{html.escape(self.ended)}</p>",
            '<label for="type">Your machine</label>',
            '<select class="form-control" id="type" name="type">',
        ]
        asked = [asyncio.to_thread(price, kind, self.region) for kind in self.types]
        for kind, cost in zip(
            map(html.escape, self.types), await asyncio.gather(*asked), strict=True
        ):
            lines.append(f'<option value="{kind}">{kind}: {cost}</option>')
        return "\n".join([*lines[not self.ended :], "</select>"])

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What has been done, while it is done."""
        told = 0
        while True:
            for text in self.said[told:]:
                told += 1
                yield {"progress": min(90, 15 * told), "message": text}
            await asyncio.sleep(1)

    def load_state(self, state: dict[str, Any]) -> None:
        """The last machine and how it ended, from the hub's database."""
        super().load_state(state)
        self.machine, self.ended = state.get("machine", ""), state.get("ended", "")

    def get_state(self) -> dict[str, Any]:
        """For the hub's database. Both outlive the server: the next start needs them."""
        return {**super().get_state(), "machine": self.machine, "ended": self.ended}

    async def start(self) -> tuple[str, int]:
        """Launch the machine and attach the home; returns where the server will answer."""
        self.said, self.ended = [], ""
        kind = self.user_options.get("type") or self.types[0]
        if kind not in self.types:
            raise SpawnError(f"`{kind}` is not offered: choose one of {', '.join(self.types)}.")
        if not self.security_groups:
            raise SpawnError(
                "The hub has no security group for machines: an administrator names "
                "one in /etc/jupyterhub/cluster.py."
            )
        await self._end("is of an earlier start, and ends")
        machine, home = await self._launch(kind)
        self.machine = machine["InstanceId"]
        self._say(f"{self.machine} ({kind}) starts in {machine['Placement']['AvailabilityZone']}")
        await self._ready(home)
        self._say("The machine boots, then starts the notebook server")
        return machine["PrivateIpAddress"], PORT

    async def _launch(self, kind: str) -> tuple[dict[str, Any], str]:
        """The machine, in the first zone that has one, and its home."""
        found = (await self._ec2("describe_subnets", SubnetIds=list(self.subnets)))["Subnets"]
        zones = {each["SubnetId"]: each["AvailabilityZone"] for each in found}
        homes = await self._ours("describe_volumes", "Volumes")
        used = [each for each in homes if not tag(each, NEW)]
        if len(used) > 1:
            names = ", ".join(each["VolumeId"] for each in used)
            raise SpawnError(
                f"You have several homes, {names}: an administrator has to take the "
                "tags off all but one."
            )
        tried = []
        for subnet in self.subnets:
            zone = zones[subnet]
            if used and used[0]["AvailabilityZone"] != zone:
                continue
            home = next(
                (each["VolumeId"] for each in used or homes if each["AvailabilityZone"] == zone),
                None,
            ) or await self._make(zone)
            try:
                answer = await self._ec2("run_instances", **self._request(kind, subnet, home))
                return answer["Instances"][0], home
            except SpawnError as error:
                if not error.elsewhere:
                    raise
                tried.append(zone)
                self._say(f"No {kind} in {zone}: {error}")
        where = f"; your home is in {used[0]['AvailabilityZone']}" if used else ""
        raise SpawnError(
            f"No {kind} now in {', '.join(tried) or 'any subnet'}{where}. "
            "Choose another type, or try again later."
        )

    async def _make(self, zone: str) -> str:
        """A blank home. It loses the tag NEW before a machine has it."""
        made = await self._ec2(
            "create_volume",
            AvailabilityZone=zone,
            Size=self.home_gib,
            VolumeType="gp3",
            Encrypted=True,
            TagSpecifications=self._tagged("volume", **{NEW: "yes"}),
        )
        return str(made["VolumeId"])

    def _request(self, kind: str, subnet: str, home: str) -> dict[str, Any]:
        env = {name: text for name, text in self.get_env().items() if name.startswith("JUPYTER")}
        files = {
            SERVER: {
                "user": self.user.name,
                "home": home,
                "env": env,
                "argv": [*self.cmd, *self.get_args()],
            }
        }
        if self.notices:
            files[IDLE] = {"action": "poweroff", "target": self.notices}
        written = [
            {"path": path, "permissions": "0600", "content": json.dumps(content)}
            for path, content in files.items()
        ]
        return {
            "LaunchTemplate": {"LaunchTemplateName": self.template, "Version": "$Default"},
            "InstanceType": kind,
            "SubnetId": subnet,
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": list(self.security_groups),
            # What golden_idle powers off is gone, and costs nothing more.
            "InstanceInitiatedShutdownBehavior": "terminate",
            # JSON is YAML. The token in it is of this one server, and only root reads the files.
            "UserData": f"#cloud-config\n{json.dumps({'write_files': written})}\n",
            "TagSpecifications": self._tagged("instance", Name=f"{self.hub_name} {self.user.name}"),
        }

    async def _ready(self, home: str) -> None:
        """Wait for the machine, then for a home that another machine still has; attach it."""
        state, text = "pending", ""
        while state == "pending":
            await asyncio.sleep(LOOK_S)
            for each in await self._machines():
                if each["InstanceId"] == self.machine:
                    state, text = each["State"]["Name"], why(each)
        if state != "running":
            raise SpawnError(text)
        while (await self._ec2("describe_volumes", VolumeIds=[home]))["Volumes"][0][
            "State"
        ] != "available":
            self._say(f"Your home, {home}, is still at another machine")
            await asyncio.sleep(LOOK_S)
        # First, so that nobody deletes what a machine has written.
        await self._ec2("delete_tags", Resources=[home], Tags=[{"Key": NEW}])
        await self._ec2("attach_volume", VolumeId=home, InstanceId=self.machine, Device="/dev/sdh")
        for each in await self._ours("describe_volumes", "Volumes"):
            if tag(each, NEW) and each["VolumeId"] != home:  # in a zone without machines
                await self._ec2("delete_volume", VolumeId=each["VolumeId"])

    async def get_url(self) -> str:
        """Where the server is, also where the hub ended before it had noted that."""
        with contextlib.suppress(SpawnError):  # a hub starts also while AWS does not answer
            for each in await self._machines():
                if each.get("PrivateIpAddress"):
                    return f"http://{each['PrivateIpAddress']}:{PORT}"
        return str(self.server.url)

    async def poll(self) -> int | None:
        """None while the machine runs; else the next form says why it does not."""
        try:
            found = await self._machines()
        except SpawnError as error:
            # Nobody loses a server because AWS does not answer.
            self.log.warning("%s: is the machine there? %s", self._log_name, error)
            return None
        if found and found[0]["State"]["Name"] in ("pending", "running"):
            return None
        self.ended = why(found[0]) if found else f"Your last machine, {self.machine}, is gone."
        self.log.warning("%s: %s", self._log_name, self.ended)
        return 1

    async def _end(self, words: str) -> bool:
        """Whether there was one to end."""
        ended = False
        for each in await self._machines():
            if each["State"]["Name"] not in ("shutting-down", "terminated"):
                self.machine, ended = each["InstanceId"], True
                self.log.info("%s: %s %s", self._log_name, self.machine, words)
                await self._ec2("terminate_instances", InstanceIds=[self.machine])
        return ended

    async def stop(self, now: bool = False) -> None:
        """End the machine; if its server never answered, the next form says that."""
        starting = self._spawn_future is not None and not self._spawn_future.done()
        if await self._end("ends with its server") and starting:
            self.ended = f"Your last machine, {self.machine}, gave no server, and was ended."
