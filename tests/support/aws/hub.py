"""A real JupyterHub with the image's spawner on the emulated account.

Its machines have addresses of the loopback, on which a test answers as their servers would. Nothing
is in front of the hub: what its proxy does, the image's own tests ask.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import urllib3
from support.builds.tools import ROOT, find
from support.loopback import QuietHandler
from support.waiting import until

REGION, TEMPLATE = "us-east-1", "golden-debian-13-jupyterhub"
TYPES = ["g6.xlarge", "g5.xlarge"]
PORT, TOKEN = 18081, "of-the-test-alone"
CONFIG = """\
import sys
from jupyterhub.proxy import Proxy
class Nothing(Proxy):
    should_start, routes = False, {{}}
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return self.routes
sys.path.insert(0, {files!r})
c = get_config()
c.JupyterHub.proxy_class = Nothing
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.hub_ip, c.JupyterHub.hub_port = "127.0.0.1", {port}
c.JupyterHub.cleanup_servers = False
c.JupyterHub.services = [{{"name": "test", "api_token": {token!r}, "admin": True}}]
c.JupyterHub.load_roles = [{{"name": "test", "services": ["test"], "scopes": ["admin:servers", "admin:users"]}}]
c.JupyterHub.spawner_class = "cluster_spawner.ClusterSpawner"
c.Spawner.ip, c.Spawner.port, c.Spawner.poll_interval = "0.0.0.0", 8888, 1
c.Spawner.start_timeout = c.Spawner.http_timeout = {limit}
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 1}}
c.ClusterSpawner.region = {region!r}
import cluster_spawner
cluster_spawner.LOOK_S = 0.1
"""


def network() -> dict[str, str]:
    """Two subnets of the loopback, by zone, and the launch template; returns ids by zone."""
    ec2 = boto3.client("ec2", REGION)
    vpc = ec2.create_vpc(CidrBlock="127.1.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="servers", Description="servers", VpcId=vpc)
    return {"group": group["GroupId"], **{zone: ec2.create_subnet(
        VpcId=vpc, CidrBlock=f"127.1.{number}.0/24", AvailabilityZone=f"{REGION}{zone}",
    )["Subnet"]["SubnetId"] for number, zone in enumerate("ab", 1)}}


class Hub:
    """One hub, that can be ended and started again on the same database."""

    def __init__(self, folder: Path, **traits: Any) -> None:
        self.folder, self.traits = folder, traits
        self.log = folder / "log"
        self._http = urllib3.PoolManager()

    @contextmanager
    def running(self, limit_s: int = 60) -> Iterator[Hub]:
        """From its first answer on."""
        lines = [f"c.ClusterSpawner.{name} = {value!r}\n" for name, value in self.traits.items()]
        config = self.folder / "config.py"
        config.write_text(CONFIG.format(files=str(ROOT / "roles/jupyterhub/files"), port=PORT,
                                        token=TOKEN, limit=limit_s, region=REGION)
                          + "".join(lines), encoding="utf-8")
        with self.log.open("ab") as log:
            process = subprocess.Popen([find("jupyterhub"), "-f", str(config)], cwd=self.folder,
                                       stdout=log, stderr=log, env=dict(os.environ))
        try:
            until("the hub", lambda: process.poll() is not None or self._up())
            assert process.poll() is None, self.log.read_text(encoding="utf-8")
            yield self
        finally:
            process.kill()  # as at a power cut; what it has to say at its end is no part of this
            process.wait()

    def _up(self) -> bool:
        with suppress(urllib3.exceptions.HTTPError):
            return self.ask("GET", "", retries=False).status == 200
        return False

    def ask(self, method: str, path: str, body: Any = None, **given: Any) -> Any:
        """A request to the hub's API."""
        return self._http.request(
            method, f"http://127.0.0.1:{PORT}/hub/api{path}", body=json.dumps(body or {}),
            headers={"Authorization": f"token {TOKEN}"}, **given)

    def start(self, user: str, kind: str = TYPES[0]) -> int:
        """Ask for a user's server; the status: 201 it is there, 202 it is on its way."""
        self.ask("POST", f"/users/{user}")
        return int(self.ask("POST", f"/users/{user}/server", {"type": kind}).status)

    def progress(self, user: str) -> list[str]:
        """What the user's page says while the server starts, up to its end."""
        answer = self.ask("GET", f"/users/{user}/server/progress", preload_content=False)
        said = []
        with suppress(http.client.IncompleteRead, urllib3.exceptions.ProtocolError):
            for line in answer:
                if line.startswith(b"data:"):
                    said.append(json.loads(line[5:])["message"])
        return said

    def is_ready(self, user: str) -> bool:
        """Whether the user's server is there."""
        servers = self.ask("GET", f"/users/{user}").json()["servers"]
        return bool(servers.get("", {}).get("ready"))


class Notebook(QuietHandler):
    """What a machine answers once its server runs."""

    def do_GET(self) -> None:
        """Any page."""
        self.answer(200, b"{}", X_JupyterHub_Version="5.2.1")


def machines() -> list[dict[str, Any]]:
    """All that EC2 shows, the newest last."""
    found = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    return sorted((each for group in found for each in group["Instances"]),
                  key=lambda each: str(each["LaunchTime"]))
