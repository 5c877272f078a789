"""Warm machines: a hub launches them ahead, so that its users need not wait for a boot.

Each has a secret, with which the hub tells it its user. The hub's key makes it of the machine's
stamp, a tag, so that a hub that starts again can use its machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
from typing import Any

from cluster_spawner import IDLE, PORT, SERVER, ClusterSpawner, SpawnError, price, tag
from jupyterhub.app import JupyterHub
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

WARM, NOBODY = "goldenami:warm", "/warm"
"""The tag with the stamp, and the user of a machine that has none yet: JupyterHub allows no `/` in
a name."""
LOOK_S, ANSWER_S = 300.0, 2.0
"""Seconds between two looks at the machines, and until one has to answer."""


class WarmMachines(ClusterSpawner):
    """A spawner without a user, for the machines that wait. One hub is one process."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._taken, self._lacks = set[str](), asyncio.Event()

    @property
    def _tags(self) -> dict[str, str]:
        return {"goldenami:hub": self.hub_name, "goldenami:user": NOBODY}

    def _mac(self, *text: Any) -> str:
        key = JupyterHub.instance().cookie_secret
        return hmac.new(key, f"warm {json.dumps(text)}".encode(), "sha256").hexdigest()

    def _stamp(self, nonce: str, instance_type: str) -> str:
        launch = self.template, instance_type, self.security_groups, self.subnets
        return f"{nonce}.{self._mac(nonce, *launch)[:16]}"

    def _is_ours(self, machine: dict[str, Any]) -> bool:
        """Return whether this hub would launch the machine so: its key and settings are the
        same."""
        stamp = tag(machine, WARM)
        return stamp == self._stamp(stamp.partition(".")[0], machine["InstanceType"])

    async def take(self, instance_type: str, zone: str) -> dict[str, Any] | None:
        """Return a machine that listens, which nobody else gets, or None. "" is any zone."""
        for machine in await self._machines():
            if (
                machine["State"]["Name"] == "running"
                and machine["InstanceType"] == instance_type
                and zone in ("", machine["Placement"]["AvailabilityZone"])
                and self._is_ours(machine)
                and await _listens(machine)
                # Last: up to the next `await` no other start of a server runs.
                and machine["InstanceId"] not in self._taken
            ):
                self._taken.add(machine["InstanceId"])
                return machine
        return None

    async def hand_over(self, machine: dict[str, Any], files: dict[str, Any]) -> None:
        """Tell a machine its user. Raises SpawnError if it may not know."""
        request = HTTPRequest(
            f"http://{machine['PrivateIpAddress']}:{PORT}/",
            method="POST",
            headers={"Authorization": f"token {self._mac(tag(machine, WARM))}"},
            body=json.dumps(files),
            follow_redirects=False,
        )
        try:
            await AsyncHTTPClient().fetch(request)
        except (HTTPClientError, OSError) as error:
            raise SpawnError(f"{machine['InstanceId']} takes no user: {error}") from None
        finally:
            self._lacks.set()

    async def look_after(self) -> None:
        """Have as many machines as the configuration says, for as long as the hub runs."""
        while True:
            try:
                await self._look()
            except Exception as error:  # users get machines of their own all the same
                self.log.warning("Warm machines: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lacks.wait(), LOOK_S)
            self._lacks.clear()

    async def _look(self) -> None:
        """End machines that are too many or of no use, and launch those that lack."""
        lacking = dict(self.warm)
        for machine in await self._machines():
            machine_id, kind = machine["InstanceId"], machine["InstanceType"]
            if machine["State"]["Name"] not in ("pending", "running"):
                continue
            if lacking.get(kind, 0) > 0 and self._is_ours(machine):
                lacking[kind] -= 1
            elif machine_id not in self._taken:
                self._taken.add(machine_id)
                self.log.info("Warm machines: %s (%s) is of no use, and ends", machine_id, kind)
                await self._ec2("terminate_instances", InstanceIds=[machine_id])
        for kind, count in lacking.items():
            for _ in range(count):
                await self._add(kind)

    async def _add(self, instance_type: str) -> None:
        """Launch a machine in the first subnet that has one."""
        stamp = self._stamp(secrets.token_hex(8), instance_type)
        tags = {WARM: stamp, "Name": f"{self.hub_name} warm"}
        # Its user brings other settings of golden_idle.
        files = {SERVER: {"secret": self._mac(stamp)}, IDLE: {"action": "none"}}
        cost = await asyncio.to_thread(price, instance_type, self.region)
        for subnet in self.subnets:
            try:
                await self._ec2(
                    "run_instances", **self._request(instance_type, subnet, files, tags)
                )
            except SpawnError as error:
                self.log.warning("No warm %s in %s: %s", instance_type, subnet, error)
            else:
                self.log.info("One more %s (%s) waits for a user", instance_type, cost)
                return


async def _listens(machine: dict[str, Any]) -> bool:
    """Return whether a machine has booted and waits for its user."""
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(machine["PrivateIpAddress"], PORT)
    except OSError:
        return False
    writer.close()
    return True


def begin(config: Any) -> None:
    """Keep the machines that a hub's configuration asks for. JupyterHub reads it in its event loop.
    Its other commands, such as `jupyterhub token`, are no hub."""
    pool = WarmMachines(config=config)
    if pool.warm and JupyterHub.initialized():
        ClusterSpawner.pool = pool
        pool.task = asyncio.create_task(pool.look_after())
