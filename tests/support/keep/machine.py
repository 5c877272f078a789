"""A machine with one folder that is kept: its settings, its metadata service, its bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import yaml

from support.idle.machine import REGION, ROLE

BUCKET, TEAM, OWNER = "team-keep", "vision", "ann"
PLACE = f"s3://{BUCKET}/{TEAM}"
PREFIX = f"{TEAM}/{OWNER}/"
UID = os.getuid() or 1500
RUN = Path(__file__).with_name("run.py")


class KeepMachine:
    """The files below `root`, of which home/ann/keep is kept."""

    def __init__(self, root: Path, imds: str, keep: str = PLACE, owner: str = OWNER) -> None:
        self.root, self.imds = root, imds
        self.keep = root / "home" / owner / "keep"
        self.runtime = root / "run/golden-keep" / str(UID)
        self.keep.mkdir(parents=True)
        os.chown(self.keep, UID, -1)
        self.runtime.mkdir(parents=True)
        (root / "etc").mkdir()
        (root / "etc/passwd").write_text(
            f"root:x:0:0::/root:/bin/sh\n{owner}:x:{UID}:{UID}::/home/{owner}:/bin/sh\n",
            encoding="utf-8",
        )
        self.set(keep=keep)

    def set(self, **settings: Any) -> None:
        """Write the image's settings."""
        found = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
        values = {name.removeprefix("golden_idle_"): value for name, value in found.items()}
        (self.root / "etc/golden-idle.json").write_text(
            json.dumps({**values, "poweroff_command": ["true"], **settings}), encoding="utf-8"
        )

    def write(self, path: str, content: bytes | str = b"") -> Path:
        """Write a file below the folder."""
        file = self.keep / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def end(self, seconds: float) -> float:
        """Announce the machine's end, and return its boot time in seconds."""
        path = self.root / "run/golden-idle/end.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
        path.write_text(
            json.dumps({"kind": "spot", "text": "it ends", "until": until}), encoding="utf-8"
        )
        return until

    def start(self, *argv: str, **environment: str) -> subprocess.Popen[str]:
        """Start golden-keep as the folder's owner."""
        path = f"{ROLE / 'files'}:{os.environ.get('PYTHONPATH', '')}"
        return subprocess.Popen(
            [sys.executable, str(RUN), str(UID), "--root", str(self.root), *argv],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run golden-keep as the folder's owner."""
        with self.start(*argv, **environment) as process:
            said, errors = process.communicate()
        return subprocess.CompletedProcess(argv, process.returncode, said, errors)

    def copy(self, **environment: str) -> dict[str, Any]:
        """One round, and what it says of itself."""
        done = self.run("copy", **environment)
        assert done.returncode in (0, 3), done.stderr
        return self.status()

    def status(self) -> dict[str, Any]:
        """What the last round said."""
        found: dict[str, Any] = json.loads((self.runtime / "status.json").read_bytes())
        return found


def objects(prefix: str = PREFIX) -> dict[str, bytes]:
    """The objects of the owner, by path."""
    client = boto3.client("s3", REGION)
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        each["Key"].removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=each["Key"])[
            "Body"
        ].read()
        for each in found
    }
