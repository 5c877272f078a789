"""A real JupyterHub with the image's spawner on the emulated account.

Its machines have addresses of the loopback, on which a test answers as their servers would. Nothing
is in front of the hub: what its proxy does, the image's own tests ask.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import requests
import urllib3
from goldenami.aws import tags

from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds.tools import ROOT, find
from support.loopback import QuietHandler
from support.waiting import until

REGION, TEMPLATE = "us-east-1", "golden-debian-13-jupyterhub"
TYPES = ["g6.xlarge", "g5.xlarge"]
TOKEN = "of-the-test-alone"
NOBODY = "/warm"
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
c.JupyterHub.load_roles = [{{
    "name": "test", "services": ["test"], "scopes": ["admin:servers", "admin:users"]}}]
c.JupyterHub.spawner_class = "cluster_spawner.ClusterSpawner"
c.Spawner.ip, c.Spawner.port, c.Spawner.poll_interval = "0.0.0.0", 8888, 1
c.Spawner.start_timeout = c.Spawner.http_timeout = {limit}
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 1}}
c.ClusterSpawner.region = {region!r}
import cluster_spawner, warm_machines
cluster_spawner.LOOK_S, warm_machines.LOOK_S = 0.1, 0.5
"""


def network(aws: Emulator) -> dict[str, Any]:
    """A template, and two subnets of the loopback; the hub's settings.

    Tests that run beside each other have networks of their own: EC2 hands out a subnet's addresses
    in order, and a machine of the other test would answer as this one's server.
    """
    net = f"127.{os.getpid() % 250 + 1}"  # the workers of one run are started within moments
    aws.set(pending_s=0)
    account, ec2 = SeededAccount(aws), boto3.client("ec2", REGION)
    account.template(TEMPLATE, [account.ami(1)], tagged=True)
    vpc = ec2.create_vpc(CidrBlock=f"{net}.0.0/16")["Vpc"]["VpcId"]
    tagged = tags.specifications({"goldenami:hub": "notebooks"}, "security-group")
    group = ec2.create_security_group(
        GroupName="servers", Description="servers", VpcId=vpc, TagSpecifications=tagged
    )
    subnets = [
        ec2.create_subnet(
            VpcId=vpc, CidrBlock=f"{net}.{number}.0/24", AvailabilityZone=f"{REGION}{zone}"
        )["Subnet"]["SubnetId"]
        for number, zone in enumerate("ab", 1)
    ]
    return {
        "template": TEMPLATE,
        "types": TYPES,
        "security_groups": [group["GroupId"]],
        "subnets": subnets,
        "notices": "ssm:/golden-idle/team",
        "keep": "s3://acme-keep/vision",
    }


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Hub:
    """One hub, that can be ended and started again on the same database."""

    def __init__(self, folder: Path, **traits: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.traits, self.port = folder, traits, free_port()
        self._log = folder / "log"
        self._http = urllib3.PoolManager()

    @contextmanager
    def running(self, limit_s: int = 60) -> Iterator[Hub]:
        lines = [f"c.ClusterSpawner.{name} = {value!r}\n" for name, value in self.traits.items()]
        config = self.folder / "config.py"
        config.write_text(
            CONFIG.format(
                files=str(ROOT / "roles/jupyterhub/files"),
                port=self.port,
                token=TOKEN,
                limit=limit_s,
                region=REGION,
            )
            + "".join(lines)
            + "warm_machines.begin(c)\n",
            encoding="utf-8",
        )
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [find("jupyterhub"), "-f", str(config)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )
        try:
            until("the hub", lambda: process.poll() is not None or self._up())
            assert process.poll() is None, self.log()
            yield self
        finally:
            process.kill()  # as at a power cut; what it has to say at its end is no part of this
            process.wait()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def _up(self) -> bool:
        with suppress(urllib3.exceptions.HTTPError):
            return bool(self.ask("GET", "", retries=False).status == 200)
        return False

    def ask(self, method: str, path: str, body: Any = None, **given: Any) -> Any:
        return self._http.request(
            method,
            f"http://127.0.0.1:{self.port}/hub/api{path}",
            body=json.dumps(body or {}),
            headers={"Authorization": f"token {TOKEN}"},
            **given,
        )

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
        servers = self.ask("GET", f"/users/{user}").json()["servers"]
        return bool(servers.get("", {}).get("ready"))

    def form(self, user: str) -> str:
        """The page on which the user chooses a machine."""
        session, base = requests.Session(), f"http://127.0.0.1:{self.port}/hub"
        session.get(f"{base}/login")
        session.post(
            f"{base}/login",
            data={"username": user, "password": "", "_xsrf": session.cookies["_xsrf"]},
        )
        return session.get(f"{base}/spawn/{user}").text

    def ended(self, user: str) -> str:
        """What the next form says of the last machine."""
        until(
            "the end of the server", lambda: not self.ask("GET", f"/users/{user}").json()["servers"]
        )
        return "".join(re.findall(r"<p>(Your last machine.*?)</p>", self.form(user)))


class Notebook(QuietHandler):
    """What a machine answers once its server runs. To a hub that tells it its user it says yes."""

    def do_GET(self) -> None:
        self.answer(200, b"{}", X_JupyterHub_Version="5.2.1")

    def do_POST(self) -> None:
        self.answer(204)


@contextmanager
def answering(machine: dict[str, Any]) -> Iterator[None]:
    """The machine's notebook server, as the hub sees it."""
    server = ThreadingHTTPServer((machine["PrivateIpAddress"], 8888), Notebook)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


PROGRAM = "#!/bin/sh\necho ${0##*/} $* >> ${0%/*}/ran\n"


@contextmanager
def waiting(machine: dict[str, Any], folder: Path, secret: str = "") -> Iterator[Path]:
    """The machine as user data left it, up to its user and then with a notebook server; its
    files. `secret` takes the place of its own."""
    folder.mkdir()
    for file in told(machine):
        (folder / Path(file["path"]).name).write_text(file["content"], encoding="utf-8")
    if secret:
        (folder / "jupyter-machine.json").write_text(f'{{"secret": "{secret}"}}', encoding="utf-8")
    for name in ("golden-keep", "systemctl"):
        (folder / name).write_text(PROGRAM, encoding="utf-8")
        (folder / name).chmod(0o755)
    address = machine["PrivateIpAddress"]
    environ = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}",
    }
    argv = [sys.executable, "-m", "support.aws.warm_machine", address, str(folder)]
    with subprocess.Popen(argv, env=environ) as process:
        try:
            until("the machine", lambda: process.poll() is not None or listens(address))
            yield folder
        finally:
            process.kill()


@contextmanager
def deaf(machine: dict[str, Any]) -> Iterator[None]:
    """The machine, which takes connections and never answers."""
    with socket.create_server((machine["PrivateIpAddress"], 8888)):
        yield


def listens(address: str) -> bool:
    """Whether something does at a machine's port."""
    with suppress(OSError):
        socket.create_connection((address, 8888)).close()
        return True
    return False


class Browser:
    """A user of a hub with its proxy, on port 8000."""

    BASE = "http://127.0.0.1:8000"

    def __init__(self, user: str, password: str) -> None:
        self.user, self._session = user, requests.Session()
        until("the hub", self._is_up)
        self._session.get(f"{self.BASE}/hub/login")
        done = self._post("/hub/login", "/hub/", username=user, password=password)
        assert done.ok, done.text

    def _is_up(self) -> bool:
        with suppress(requests.ConnectionError):
            return requests.get(f"{self.BASE}/hub/health", timeout=60).status_code == 200
        return False

    def _xsrf(self, path: str) -> str:
        return next(
            str(cookie.value)
            for cookie in self._session.cookies
            if cookie.name == "_xsrf" and cookie.path == path
        )

    def _post(self, page: str, path: str, **fields: str) -> requests.Response:
        return self._session.post(f"{self.BASE}{page}", data={**fields, "_xsrf": self._xsrf(path)})

    def choose(self, kind: str) -> None:
        page = self._session.get(f"{self.BASE}/hub/spawn/{self.user}")
        assert f'<option value="{kind}">' in page.text, page.text
        assert self._post(f"/hub/spawn/{self.user}", "/hub/", type=kind).ok

    def has_server(self) -> bool:
        """Whether the server's own page answers, which takes the session through OAuth."""
        page = self._session.get(f"{self.BASE}/user/{self.user}/tree")
        return page.ok and page.url.startswith(f"{self.BASE}/user/{self.user}/")

    def save(self, name: str, text: str) -> None:
        path = f"/user/{self.user}/"
        done = self._session.put(
            f"{self.BASE}{path}api/contents/{name}",
            headers={"X-XSRFToken": self._xsrf(path)},
            json={"type": "file", "format": "text", "content": text},
        )
        assert done.ok, done.text

    def stop(self) -> None:
        self._session.get(f"{self.BASE}/hub/home")
        done = self._session.delete(
            f"{self.BASE}/hub/api/users/{self.user}/server",
            headers={"X-XSRFToken": self._xsrf("/hub/"), "Referer": f"{self.BASE}/hub/home"},
        )
        assert done.ok, done.text


def of_a_launch(settings: dict[str, Any]) -> dict[str, str]:
    """What cloud-init and user data leave on a hub's machine, by path; the account's address."""
    facts = {
        "v1": {"region": REGION},
        "ds": {
            "meta_data": {
                "mac": "0a",
                "local-ipv4": "127.0.0.1",
                "network": {"interfaces": {"macs": {"0a": {"subnet-id": settings["subnets"][0]}}}},
            }
        },
    }
    account = "".join(
        f"Environment={name}={value}\n"
        for name, value in os.environ.items()
        if name.startswith("AWS_")
    )
    return {
        "/run/cloud-init/instance-data.json": json.dumps(facts),
        "/etc/jupyterhub/cluster.py": (
            f"c = get_config()\nc.ClusterSpawner.security_groups = {settings['security_groups']}\n"
        ),
        "/etc/systemd/system/jupyterhub.service.d/70-account.conf": f"[Service]\n{account}",
    }


def told(machine: dict[str, Any]) -> list[dict[str, str]]:
    """The files that a machine's user data writes."""
    data = boto3.client("ec2", REGION).describe_instance_attribute(
        InstanceId=machine["InstanceId"], Attribute="userData"
    )
    text = base64.b64decode(data["UserData"]["Value"]).decode()
    assert text.startswith("#cloud-config\n")
    files: list[dict[str, str]] = json.loads(text.partition("\n")[2])["write_files"]
    assert {file["permissions"] for file in files} == {"0600"}
    return files


def home(zone: str, user: str, **more: str) -> None:
    """Make a home."""
    own = {"hub": "notebooks", "user": user, "server": "-", **more}
    boto3.client("ec2", REGION).create_volume(
        AvailabilityZone=zone,
        Size=1,
        TagSpecifications=tags.specifications(
            {f"goldenami:{key}": value for key, value in own.items()}, "volume"
        ),
    )


def machines() -> list[dict[str, Any]]:
    """All that EC2 shows, the newest last."""
    found = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    return sorted(
        (each for group in found for each in group["Instances"]),
        key=lambda each: str(each["LaunchTime"]),
    )


def live() -> list[dict[str, Any]]:
    """Those that have not ended."""
    return [each for each in machines() if each["State"]["Name"] != "terminated"]


def holder(volume: str) -> str:
    """The machine that a volume is attached to, if any."""
    [found] = boto3.client("ec2", REGION).describe_volumes(VolumeIds=[volume])["Volumes"]
    return "".join(each["InstanceId"] for each in found["Attachments"])


def tags_of(machine: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in machine["Tags"]}


def of(user: str) -> list[dict[str, Any]]:
    """The live machines of a user."""
    return [each for each in live() if tags_of(each)["goldenami:user"] == user]
