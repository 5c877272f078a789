"""A machine whose end the metadata service of `verify` plays: the agent runs as a process, jobs are
processes, and systemctl is a program that runs a copy as its unit does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.local.vm.imds import Instance, Service

from support import files
from support.idle.machine import ROLE, IdleMachine, Running
from support.keep.machine import OWNER, PLACE, RUN, UID, objects
from support.waiting import until

GOLDEN_KEEP = ROLE / "files/golden-keep"
_SYSTEMCTL = """#!{python}
import os, subprocess, sys
verb, unit = sys.argv[1:3]
kind, _, uid = unit.partition("@")
if os.path.exists({kill!r}):
    os.remove({kill!r})
    os.kill(os.getppid(), 9)
if (verb, kind) == ("start", "golden-keep"):
    os.environ["PYTHONPATH"] = {modules!r}
    copy = [{python!r}, {run!r}, uid, "--root", {root!r}, "copy"]
    sys.exit(subprocess.run(copy).returncode not in (0, 3))
"""
JOB = """
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1])
def save(*_):
    (place / "checkpoint").write_text("step 17")
    sys.exit(3)
signal.signal(signal.SIGTERM, save if sys.argv[2] == "saves" else signal.SIG_IGN)
(place / "started").write_text("")
while True:
    time.sleep(60)
"""


def spot(in_s: float) -> dict[str, str]:
    """The notice of a Spot machine that is taken back in so many seconds."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + in_s))
    return {"spot/instance-action": json.dumps({"action": "terminate", "time": when})}


def event(in_s: float, state: str = "active") -> dict[str, str]:
    """A scheduled event in so many seconds."""
    when = time.strftime("%d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + in_s))
    row = {"NotBefore": when, "Code": "instance-retirement", "EventId": "e-1", "State": state}
    return {"events/maintenance/scheduled": json.dumps([row])}


class _Played(Service):
    """The service, which kills whom `kill` names when `path` is asked for."""

    kill: tuple[str, Callable[[], int]] | None = None
    is_deaf = False

    def record(self, row: Mapping[str, Any]) -> None:
        if self.kill and row["path"].endswith(self.kill[0]):
            pid, self.kill = self.kill[1](), None
            os.kill(pid, signal.SIGKILL)
        super().record(row)
        if self.is_deaf:
            raise ConnectionAbortedError

    def handle_error(self, *_: Any) -> None:
        """Quiet: who is deaf says nothing."""


REBALANCE = {"events/recommendations/rebalance": json.dumps({"noticeTime": "2026-12-01T00:00:00Z"})}
SCALE_IN = {"autoscaling/target-lifecycle-state": "Terminated"}


class EndingMachine(IdleMachine):
    """A machine of a person, ann, whose folder is kept."""

    def __init__(self, root: Path, instance: str = "i-0123456789abcdef0", **settings: Any) -> None:
        super().__init__(root, **{"keep": PLACE, **settings})
        self.instance = instance
        self.home = root / "home" / OWNER
        self.keep = self.home / "keep"
        self.keep.mkdir(parents=True)
        (root / "run/golden-keep" / str(UID)).mkdir(parents=True)
        for path in (self.home, self.keep, root / "run/golden-keep" / str(UID)):
            os.chown(path, UID, -1)
        files.write(
            root,
            {
                "etc/passwd": f"{OWNER}:x:{UID}:{UID}::/home/{OWNER}:/bin/sh\n",
                "bin/systemctl": _SYSTEMCTL.format(
                    python=sys.executable,
                    kill=str(root / "kill"),
                    run=str(RUN),
                    modules=str(ROLE / "files"),
                    root=str(root),
                ),
                "job.py": JOB,
            },
        )
        (root / "bin/systemctl").chmod(0o755)
        self.play()

    def play(self, *ends: dict[str, str]) -> None:
        """Have the metadata service announce these ends, and no others."""
        played = {f"meta-data/{path}": text for each in ends for path, text in each.items()}
        self._write("played.json", json.dumps(played))

    def save(self, name: str, data: str | bytes) -> None:
        """Write a file of ann's."""
        path = self.keep / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        os.chown(path, UID, -1)

    @contextmanager
    def watched(self, speed: float = 20, **environment: str) -> Iterator[Running]:
        """The agent on a machine whose metadata service plays."""
        played = Instance(
            log=str(self.root / "imds.log"),
            public_key="",
            instance_id=self.instance,
            played=str(self.root / "played.json"),
        )
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        with _Played(("127.0.0.1", 0), played) as service:
            self.service = service
            thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            address = f"http://127.0.0.1:{service.server_port}"
            with self.agent(address, speed, PATH=path, **environment) as agent:
                yield agent
            service.shutdown()

    @contextmanager
    def job(
        self, how: str = "saves", *, registers: bool = True
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A job that `golden-keep run` started, or nobody knows."""
        until("the agent's folder of jobs", (self.root / "run/golden-idle/jobs").exists)
        command = [sys.executable, str(self.root / "job.py"), str(self.keep), how]
        if registers:
            run = [sys.executable, "-IB", str(GOLDEN_KEEP), "--root", str(self.root), "run", "--"]
            command = [*run, *command]
        process = subprocess.Popen(command)
        try:
            until("the job", (self.keep / "started").exists)
            yield process
        finally:
            process.kill()
            process.wait()

    def looks(self, times: int, at: str = "instance-life-cycle") -> None:
        """Wait until the agent has looked so many times from now on."""
        log = self.root / "imds.log"

        def looked() -> int:
            return log.read_text(encoding="utf-8").count(at)

        before = looked()
        until("the agent's looks", lambda: looked() >= before + times)

    def end(self) -> dict[str, Any]:
        """What the copier is told, or nothing."""
        path = self.root / "run/golden-idle/end.json"
        with_text = path.read_text(encoding="utf-8") if path.exists() else "{}"
        return dict(json.loads(with_text))

    def terminal(self) -> str:
        """What was written to the terminal."""
        return (self.root / "dev/pts/0").read_text(encoding="utf-8")

    def login(self) -> str:
        """What a login shows."""
        path = self.root / "run/motd.d/40-golden-keep"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def kept() -> dict[str, bytes]:
    """What the bucket has of ann, without the copier's own."""
    return {path: data for path, data in objects().items() if not path.startswith(".golden-keep/")}
