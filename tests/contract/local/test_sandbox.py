"""The namespaces of a build, for real: nothing outside is reachable, and nothing outlives its
parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import shell
from goldenami.core.process import ProcessId
from goldenami.local.sandbox import namespaces
from support.builds.checkout import processes
from support.waiting import until

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
PARENT = """
import json, sys
from pathlib import Path
from goldenami.local.sandbox import namespaces
namespaces.CGROUP_PREFIX = sys.argv[3]
namespaces.run(json.loads(sys.argv[2]), log=Path(sys.argv[1]),
               on_line=lambda line: print(line, flush=True))
"""
NOT_ROUTABLE = "192.0.2.1"
"""TEST-NET-1 (RFC 5737): nobody has it, but a machine with a default route tries."""


@pytest.fixture(autouse=True)
def _root_only() -> None:
    if os.geteuid() == 0:
        return
    if os.environ.get("CI"):
        pytest.fail("CI runs these as root")
    pytest.skip("root is needed for namespaces")


@pytest.fixture(autouse=True)
def _own_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run beside these tests would reap what they leave."""
    monkeypatch.setattr(namespaces, "CGROUP_PREFIX", f"golden-test-{os.getpid()}-")


def cgroups(pid: int) -> set[str]:
    """Names of the cgroups of the run of `pid`."""
    return {
        path.name
        for root in namespaces._cgroup_roots()
        for path in root.glob(f"{namespaces.CGROUP_PREFIX}{pid}-*")
    }


@contextmanager
def parent(tmp_path: Path, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `argv` in a sandbox and relays its lines; killed at the end whatever
    happens."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PARENT,
            str(tmp_path / "log"),
            json.dumps(argv),
            namespaces.CGROUP_PREFIX,
        ],
        text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        namespaces.reap()


def inside(tmp_path: Path, code: str) -> Any:
    """Run Python `code` in a sandbox; returns what it printed as JSON."""
    lines: list[str] = []
    namespaces.run([sys.executable, "-c", code], log=tmp_path / "log", on_line=lines.append)
    return json.loads(lines[-1])


CONNECT = """
import errno, json, socket
def attempt(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "connected"
print(json.dumps([attempt(host, port) for host, port in {targets!r}]))
"""


def test_nothing_outside_is_reachable(tmp_path: Path) -> None:
    addresses = {
        info.split()[3].partition("/")[0]
        for info in shell.output(["ip", "-4", "-o", "address"]).splitlines()
    }
    addresses -= {"127.0.0.1"}
    if not addresses:
        pytest.skip("this machine has no address but loopback")
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        for address in addresses:  # the targets are there: outside the sandbox they answer
            socket.create_connection((address, port), timeout=3).close()
        targets = [(address, port) for address in sorted(addresses)] + [
            (NOT_ROUTABLE, 80),
            ("127.0.0.1", port),
        ]
        found = inside(tmp_path, CONNECT.format(targets=targets))
    assert found == ["ENETUNREACH"] * (len(addresses) + 1) + ["ECONNREFUSED"]


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


def test_it_sees_neither_processes_nor_names_of_the_host(tmp_path: Path) -> None:
    code = """
import json, os
from pathlib import Path
print(json.dumps({"pids": sorted(int(p.name) for p in Path("/proc").glob("[0-9]*")),
                  "me": os.getpid(), "netns": os.listdir("/run/netns")}))
"""
    found = inside(tmp_path, code)
    assert found["me"] in found["pids"]
    assert len(found["pids"]) <= 2
    assert found["netns"] == []


def test_mounts_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    namespaces.run(
        ["mount", "-t", "tmpfs", "golden-test", str(tmp_path / "mnt")], log=tmp_path / "log"
    )
    assert "golden-test" not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def test_a_failure_is_raised_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(shell.CommandFailed) as caught:
        namespaces.run(["sh", "-c", "echo reason; exit 7"], log=tmp_path / "log")
    assert (caught.value.status, caught.value.tail) == (7, "reason")
    assert not cgroups(os.getpid())


def test_kill_9_of_the_parent_ends_everything(tmp_path: Path) -> None:
    mark = f"golden-test-{os.getpid()}-{time.monotonic_ns()}"
    (tmp_path / "mnt").mkdir()
    script = (
        f'mount -t tmpfs {mark} {tmp_path}/mnt; setsid sh -c \'trap "" TERM HUP INT; sleep '
        f"600; : {mark}' & "
        f"ip link add golden-t0 type veth peer name golden-t1; echo up; sleep 600; : {mark}"
    )
    with parent(tmp_path, ["sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert len(processes(f": {mark}")) >= 2
        assert len(cgroups(process.pid)) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        until("the end of the processes inside", lambda: not processes(f": {mark}"))
        assert mark not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        assert "golden-t0" not in shell.output(["ip", "-o", "link"])
        assert cgroups(process.pid)  # all that a kernel does not drop
        namespaces.run(["true"], log=tmp_path / "second")  # the next run removes it
        assert not cgroups(process.pid)


def test_a_reaper_kills_what_still_lives_in_a_dead_runs_cgroup(tmp_path: Path) -> None:
    """The name's process id is alive but began at another time: the id was used again."""
    name = f"{namespaces.CGROUP_PREFIX}{ProcessId(os.getpid(), 1)}"
    folders = [root / name for root in namespaces._cgroup_roots()]
    for folder in folders:
        (folder / "child").mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        (folders[0] / "child/cgroup.procs").write_text(str(sleeper.pid), encoding="utf-8")
        assert name in namespaces.reap()
        assert sleeper.wait(timeout=10) == -signal.SIGKILL
        assert not [folder for folder in folders if folder.exists()]
    finally:
        sleeper.kill()
        sleeper.wait()
