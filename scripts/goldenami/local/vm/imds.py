"""An EC2 instance metadata service that speaks version 2 only, for an image that boots on one
machine: `python -m goldenami.local.vm.imds FILE`. FILE has an Instance as JSON.

Paths, codes and the token's header are those of "Use the Instance Metadata Service to access
instance metadata" and "Instance metadata categories" (Amazon EC2 User Guide). Each request becomes
one JSON line in the log, so that a test can tell that a token was used and that no version 1
request got an answer.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ADDRESS = "169.254.169.254"
PORT = 80
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
TTL_MAX_S = 21600
"""Longest life of a token: six hours (EC2 User Guide)."""
VERSIONS = (
    "1.0",
    "2007-01-19",
    "2009-04-04",
    "2014-11-05",
    "2016-09-02",
    "2018-03-28",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "latest",
)
"""Part of EC2's list: all versions that cloud-init asks for (DataSourceEc2: 2009-04-04 as minimum;
2016-09-02, 2018-09-24 and 2021-03-23 as extended versions)."""
ACCOUNT, AMI, REGION, ZONE = "000000000000", "ami-0123456789abcdef0", "us-east-1", "us-east-1a"
INSTANCE_TYPE = "m5.large"
MAC, IPV4, SUBNET = "52:54:00:12:34:56", "10.0.2.15", "10.0.2.0/24"
"""slirp hands out this network with itself at .2: it is the only one that QEMU's user mode
knows."""
HOSTNAME = "ip-10-0-2-15.ec2.internal"
"""EC2's IP-based private name of that address, in that region."""


@dataclass(frozen=True)
class Instance:
    """The instance that the service describes. Requests are written to the file `log`. The file
    `played`, if there is one, adds paths and texts (JSON), such as those of an end."""

    log: str
    public_key: str
    instance_id: str = "i-0123456789abcdef0"
    user_data: str | None = None
    played: str = ""


def answers(instance: Instance) -> dict[str, str]:
    """Return every readable path below a version, without leading slash, and its text."""
    texts = {f"meta-data/{path}": text for path, text in _metadata(instance).items()}
    texts["dynamic/instance-identity/document"] = json.dumps(
        {
            "accountId": ACCOUNT,
            "architecture": "x86_64",
            "availabilityZone": ZONE,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": AMI,
            "instanceId": instance.instance_id,
            "instanceType": INSTANCE_TYPE,
            "kernelId": None,
            "pendingTime": "2020-01-01T00:00:00Z",
            "privateIp": IPV4,
            "ramdiskId": None,
            "region": REGION,
            "version": "2017-09-30",
        },
        indent=2,
    )
    if instance.user_data is not None:
        texts["user-data"] = instance.user_data
    return texts


def _metadata(instance: Instance) -> dict[str, str]:
    network = f"network/interfaces/macs/{MAC}"
    return {
        "ami-id": AMI,
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping/ami": "/dev/xvda",
        "block-device-mapping/root": "/dev/xvda",
        "hostname": HOSTNAME,
        "instance-action": "none",
        "instance-id": instance.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": INSTANCE_TYPE,
        "local-hostname": HOSTNAME,
        "local-ipv4": IPV4,
        "mac": MAC,
        f"{network}/device-number": "0",
        f"{network}/interface-id": "eni-0123456789abcdef0",
        f"{network}/local-hostname": HOSTNAME,
        f"{network}/local-ipv4s": IPV4,
        f"{network}/mac": MAC,
        f"{network}/owner-id": ACCOUNT,
        f"{network}/security-groups": "default",
        f"{network}/security-group-ids": "sg-0123456789abcdef0",
        f"{network}/subnet-id": "subnet-0123456789abcdef0",
        f"{network}/subnet-ipv4-cidr-block": SUBNET,
        f"{network}/vpc-id": "vpc-0123456789abcdef0",
        f"{network}/vpc-ipv4-cidr-block": SUBNET,
        f"{network}/vpc-ipv4-cidr-blocks": SUBNET,
        "placement/availability-zone": ZONE,
        "placement/availability-zone-id": "use1-az1",
        "placement/region": REGION,
        "profile": "default-hvm",
        "public-keys/0/openssh-key": instance.public_key.strip(),
        "reservation-id": "r-0123456789abcdef0",
        "security-groups": "default",
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "system": "nitro",
    }


def find(leaves: Mapping[str, str], path: str) -> str | None:
    """Return the text at `path` (below a version), a listing of its children, or None. A listing
    ends folders in `/`, except that of public-keys, which EC2 writes as `index=name`."""
    path = path.strip("/")
    if path in leaves:
        return leaves[path]
    prefix = f"{path}/" if path else ""
    children = set[str]()
    for leaf in leaves:
        if leaf.startswith(prefix):
            head, separator, _ = leaf.removeprefix(prefix).partition("/")
            children.add(head + separator)
    lines = sorted(children)
    if path == "meta-data/public-keys":
        lines = [f"{child.rstrip('/')}=golden" for child in lines]
    return "\n".join(lines) or None


class Tokens:
    """Session tokens with the end of their validity; safe for the server's threads."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def issue(self, ttl_s: int) -> str:
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._ends[token] = time.monotonic() + ttl_s
        return token

    def valid(self, token: str) -> bool:
        with self._lock:
            return time.monotonic() < self._ends.get(token, 0.0)


class Service(ThreadingHTTPServer):
    """The server and the state that its requests share."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], instance: Instance) -> None:
        super().__init__(address, Handler)
        self.leaves = answers(instance)
        self.tokens = Tokens()
        self._log = Path(instance.log)
        self._played = Path(instance.played or "/nonexistent")
        self._log_lock = threading.Lock()

    def readable(self) -> dict[str, str]:
        """Return every readable path and its text at this moment."""
        if not self._played.exists():
            return self.leaves
        played: dict[str, str] = json.loads(self._played.read_text(encoding="utf-8"))
        return self.leaves | played

    def record(self, row: Mapping[str, Any]) -> None:
        with self._log_lock, self._log.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(row, sort_keys=True) + "\n")


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: Service
    server_version = "EC2ws"
    sys_version = ""

    def do_GET(self) -> None:
        token = self.headers.get(TOKEN_HEADER)
        if token is None:
            return self._answer(HTTPStatus.UNAUTHORIZED, token="none")  # noqa: S106 - what the log says of it
        if not self.server.tokens.valid(token):
            return self._answer(HTTPStatus.UNAUTHORIZED, token="invalid")  # noqa: S106 - as above
        text = self._find()
        status = HTTPStatus.NOT_FOUND if text is None else HTTPStatus.OK
        return self._answer(status, text, token="valid")  # noqa: S106 - as above

    def do_PUT(self) -> None:
        if urlsplit(self.path).path.rstrip("/") != "/latest/api/token":
            return self._answer(HTTPStatus.NOT_FOUND)
        # As EC2 does, so that an open proxy gives no token away.
        if "X-Forwarded-For" in self.headers:
            return self._answer(HTTPStatus.FORBIDDEN)
        ttl = self.headers.get(TTL_HEADER, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= TTL_MAX_S:
            return self._answer(HTTPStatus.BAD_REQUEST)
        return self._answer(
            HTTPStatus.OK, self.server.tokens.issue(int(ttl)), headers={TTL_HEADER: ttl}
        )

    def _find(self) -> str | None:
        version, _, rest = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        if not version:
            return "\n".join(VERSIONS)
        return find(self.server.readable(), rest) if version in VERSIONS else None

    def _answer(
        self,
        status: HTTPStatus,
        text: str | None = None,
        *,
        token: str = "none",  # noqa: S107 - as above
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = (f"{status.value} - {status.phrase}\n" if text is None else text).encode()
        self.server.record(
            {"method": self.command, "path": self.path, "status": status.value, "token": token}
        )
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing to stderr: `Service.record` has it all."""


def main(config: Path) -> None:
    """Serve until killed."""
    instance = Instance(**json.loads(config.read_text(encoding="utf-8")))
    with Service((ADDRESS, PORT), instance) as service:
        service.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
