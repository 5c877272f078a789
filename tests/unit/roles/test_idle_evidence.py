"""What golden-idle takes for a sign of people and jobs, and what it does not."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from golden_idle import evidence, machine, notebooks, sockets
from golden_idle.evidence import Look, Process, Signs
from golden_idle.notebooks import UNKNOWN, Server
from golden_idle.sockets import Connection
from support import files
from support.idle import recording, traces
from support.idle.recording import Life
from support.loopback import Loopback, QuietHandler

MINUTE = 60.0
PID = 42
OPEN = Connection(7, accepted=True, local=False, received=1000, sent=1000, sent_ms=9, received_ms=5)
ASKED = Connection(7, False, False, received=1000, sent=1000, sent_ms=2000, received_ms=9000)
PERSON = Process(1, "python3", "person")
HOT = {"42": (0.0, 0.0)}


def look(at: float, process: Process, *connections: Connection, **more: Any) -> Look:
    """A machine with one process, which has all connections."""
    inodes = tuple(each.inode for each in connections)
    found = {f"net {each.inode}": each for each in connections}
    return Look(
        at,
        {PID: dataclasses.replace(process, sockets=inodes)},
        found,
        more.pop("servers", {}),
        **more,
    )


def seen(
    process: Process,
    connections: dict[Connection, dict[str, Any]] | None = None,
    holders: tuple[int, ...] = (),
    gpus_spin: bool = False,
    **changed: Any,
) -> Signs:
    """The signs of a minute in which a process and its connections became so."""
    before = connections or {}
    after = [dataclasses.replace(each, **new) for each, new in before.items()]
    earlier = look(0.0, process, *before, holders=holders)
    later = look(MINUTE, dataclasses.replace(process, **changed), *after, holders=holders)
    return evidence.signs(earlier, later, gpus_spin)


# --- jobs ---


@pytest.mark.parametrize(
    ("process", "changed", "said"),
    [
        (PERSON, {"stored": 6_000_000}, "reads or writes disks"),
        (PERSON, {"stored": 5_999_999}, ""),
        (PERSON, {"state": "D", "moved": 1}, "waits for a disk or a file system, and goes on"),
        (dataclasses.replace(PERSON, state="D"), {"faults": 1}, "goes on"),
        (dataclasses.replace(PERSON, state="D"), {}, ""),
        (PERSON, {"cpu_s": 30.0}, ""),
        (Process(1, "etl", "container"), {"cpu_s": 3.0}, "containers use 0.05 cores"),
        (Process(1, "etl", "container"), {"cpu_s": 2.9}, ""),
    ],
)
def test_jobs_show_by_what_they_do(process: Process, changed: dict[str, Any], said: str) -> None:
    used = seen(process, **changed).used
    assert bool(used) == bool(said) and said in "".join(used)


def test_another_process_of_the_same_number_is_none_that_goes_on() -> None:
    assert seen(PERSON, began=2, stored=10**9).used == ()


# --- what spins ---


def spin(user: float, system: float, **changed: Any) -> Signs:
    """A process whose one thread ran for so long, outside and inside the kernel."""
    return seen(
        dataclasses.replace(PERSON, threads=HOT),
        cpu_s=user + system,
        threads={"42": (user, system)},
        **changed,
    )


def test_a_process_spins_that_asks_the_kernel_and_gets_nothing() -> None:
    assert spin(10.0, 40.0).spun == pytest.approx(50 / MINUTE)
    assert spin(40.0, 10.0).spun == 0, "it computes"
    assert spin(10.0, 40.0, moved=2000).spun == spin(10.0, 40.0, faults=60).spun == 0
    talks = {OPEN: {"received": 9000}}
    assert spin(10.0, 40.0, connections=talks).spun == 0


# --- people and other machines ---


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("ssh", {"received": 1000 + 2049}, "gets data from its user"),
        ("ssh", {"received": 1000 + 208, "sent": 10**6}, ""),
        ("editor", {"received": 9000}, "gets data from its user"),
        ("jupyter", {"received": 9000}, "gets data from its user"),
        ("person", {"received": 9000}, ""),
        ("person", {"sent": 1000 + 65_536}, "moves data to or from other machines"),
        ("person", {"sent": 1000 + 65_536, "local": True}, ""),
    ],
)
def test_data_is_a_sign_by_who_gets_it(kind: str, changed: dict[str, Any], said: str) -> None:
    used = seen(Process(1, "x", kind), {OPEN: changed}).used
    assert bool(used) == bool(said) and said in "".join(used)


@pytest.mark.parametrize(
    ("kind", "changed", "waits"),
    [
        ("person", {}, True),
        ("container", {}, True),
        ("jupyter", {}, True),
        ("ssh", {}, False),
        ("jupyter", {"local": True}, False),
        ("person", {"local": True}, True),
        ("person", {"accepted": True}, False),
        ("person", {"received_ms": 900_001}, False),
        ("person", {"sent_ms": 9001}, False),
        ("person", {"sent_ms": 9000}, False),
        ("person", {"sent_ms": 9000, "sent": 1200}, True),
        ("person", {"sent_ms": 9000, "received": 0}, True),
        ("person", {"sent_ms": 9000, "received": 0, "sent": 1}, False),
    ],
)
def test_a_job_waits_where_its_question_is_not_answered(
    kind: str, changed: dict[str, Any], waits: bool
) -> None:
    assert bool(seen(Process(1, "x", kind), {ASKED: changed}).waits) == waits


def test_a_person_may_say_for_how_long_a_job_may_wait() -> None:
    for hours, ends in ((0, False), (1, True)):
        wanted = traces.settings(longest_wait_hours=hours)
        assert (recording.ended(Life("", "asks-slowly", True), wanted, 3) is not None) == ends
    working = traces.settings(longest_wait_hours=1)
    assert recording.ended(Life("", "container-works", True), working, 3) is None


# --- the kernel's and Jupyter's words ---

_PAIR = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
accepted, _ = server.accept()
client.sendall(bytes(500))
accepted.recv(500)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def elsewhere(*namespaces: str) -> Iterator[int]:
    """A process with a connection to itself, in namespaces of its own."""
    words = ["unshare", *namespaces, "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    with subprocess.Popen(
        [*words, sys.executable, "-c", _PAIR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process.pid


def test_connections_are_counted_in_other_namespaces_too() -> None:
    own = Path("/proc/thread-self/ns/net")
    before = own.readlink()
    with elsewhere("--net") as pid:
        found = sockets.read({"there": Path(f"/proc/{pid}/ns/net"), "gone": Path("/proc/0/ns/net")})
    assert own.readlink() == before
    accepted, asking = sorted(found.values(), key=lambda each: not each.accepted)
    assert (accepted.received, asking.sent, asking.received) == (500, 501, 0)
    assert accepted.local and asking.local and not asking.accepted


def test_connections_by_ipv6_are_counted() -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        accepted, _ = server.accept()
        client.sendall(bytes(300))
        accepted.recv(300)
        found = sockets.read({"": Path("/proc/self/ns/net")}).values()
        inode = os.fstat(accepted.fileno()).st_ino
        accepted.close()
    assert [(each.received, each.accepted) for each in found if each.inode == inode] == [
        (300, True)
    ]


def test_a_look_knows_processes_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[1]")
    people = "0::/user.slice/user-1000.slice/session-1.scope"
    kinds = {
        "ssh": ("sshd-session", "sshd: ann", people),
        "person": ("python3", "train.py", people),
        "editor": ("node", ".vscode-server/bin/node", people),
        "jupyter": ("jupyter-lab", "/usr/bin/jupyter-lab", "0::/system.slice/jupyterhub.service"),
        "daemon": ("cron", "/usr/sbin/cron", "0::/system.slice/cron.service"),
        "container": ("etl", "etl", "0::/system.slice/docker-1.scope"),
    }
    for number, (kind, (name, words, group)) in enumerate(kinds.items(), 10):
        space = "pid:[2]" if kind == "container" else "pid:[1]"
        process(tmp_path / "proc" / str(number), name, words, group, space)
    process(tmp_path / "proc/99", "kworker/0", "", "0::/", "pid:[1]", flags=evidence._KERNEL_THREAD)
    found = evidence.look(tmp_path, 5.0, None).processes
    assert {each.kind for each in found.values()} == kinds.keys() - {"daemon"}
    assert found[10] == Process(77, "sshd-session", "ssh", "S", 1.0, 30, 300, (1234,), {}, 9)


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("/system.slice/ssh.service", "daemon"),
        ("/init.scope", "daemon"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "daemon"),
        ("/system.slice/jupyterhub.service", "person"),
        ("/system.slice/run-u12.service", "person"),
        ("/system.slice/docker-1.scope", "person"),
        ("/system.slice/slurmstepd.scope/job_1", "person"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "person"),
        ("/", "person"),
    ],
)
def test_a_daemon_is_known_by_its_unit(tmp_path: Path, group: str, kind: str) -> None:
    process(tmp_path, "x", "x", f"1:cpu:/\n0::{group}\n", "pid:[1]")
    assert evidence._kind(tmp_path, "pid:[1]", "x") == kind


def process(folder: Path, name: str, words: str, group: str, space: str, flags: int = 0) -> None:
    """A process's files below /proc."""
    ticks = os.sysconf("SC_CLK_TCK")
    numbers = [1, 1, 1, 0, 0, flags, 10, 0, 20, 0, ticks, 0, 0, 0, 20, 0, 1, 0, 77, 0]
    files.write(
        folder,
        {
            "stat": f"1 ({name}) S {' '.join(map(str, numbers))}\n",
            "cmdline": words,
            "cgroup": group,
            "io": "rchar: 100\nwchar: 200\nread_bytes: 4\nwrite_bytes: 5\n",
        },
    )
    for link, target in {"ns/pid": space, "ns/net": "net:[1]", "fd/3": "socket:[1234]"}.items():
        (folder / link).parent.mkdir(exist_ok=True)
        (folder / link).symlink_to(target)


class _Jupyter(QuietHandler):
    """A server that has one kernel, and keeps the tokens that it is shown."""

    shown: list[str]

    def do_GET(self) -> None:
        self.shown.append(self.headers["Authorization"])
        kernel = {"last_activity": "noon", "execution_state": "busy"}
        asked = kernel if "/api/kernels?" in self.path else {"path": "work.ipynb"}
        self.answer(200, json.dumps([asked]).encode())


def test_jupyter_is_asked_with_the_token_of_its_own_user(tmp_path: Path) -> None:
    shown: list[str] = []
    with Loopback(type("Handler", (_Jupyter,), {"shown": shown})) as server:
        home = tmp_path / "home/debian"
        where = home / ".local/share/jupyter/runtime"
        said = {
            "port": int(server.url.rpartition(":")[2]),
            "base_url": "/user/ann/",
            "token": "",
            "root_dir": str(home),
        }
        files.write(
            where,
            {
                "jpserver-10.json": json.dumps(said),
                "jpserver-11.json": "no",
                "jpserver-12.json": json.dumps(said),
            },
        )
        os.mkfifo(where / "jpserver-13.json")
        files.write(home, {"work.ipynb": "{}"})
        for number in ("10", "11", "12", "13"):
            files.write(tmp_path / "proc" / number, {"environ": "A=1\0JUPYTERHUB_API_TOKEN=mine\0"})
        os.chown(tmp_path / "proc/12", 65534, 65534)
        found = notebooks.ask(tmp_path, [10, 11, 12, 13, 14])
    assert found.keys() == {"10", "11", "13"} and found["11"] == found["13"] == UNKNOWN
    changed = (home / "work.ipynb").stat().st_mtime_ns
    assert found["10"] == Server(f"{changed} noon", 1)
    assert shown == ["token mine"] * 2, "nobody's token goes to a port that another user names"


# --- the whole machine ---


def test_a_timer_s_work_counts_while_it_runs(tmp_path: Path) -> None:
    files.write(tmp_path / "etc/systemd/system", {"backup.timer": ""})
    group = tmp_path / "sys/fs/cgroup/system.slice/backup.service"
    files.write(tmp_path / "proc", {"stat": "cpu 100 0 0 0 0 0 0 50 0 0\n"})
    files.write(tmp_path / "proc/net", {"dev": "head\nhead\n"})
    files.write(
        tmp_path / "proc/pressure", {"io": "some avg10=0.00 avg300=0.00 total=2500000\nfull\n"}
    )
    files.write(group, {"cpu.stat": "usage_usec 4000000\nuser_usec 0\n"})
    found = machine.read(tmp_path)
    assert (found.timers, found.stalled_s) == ({"backup.service": 4.0}, 2.5)
    assert found.busy_s * os.sysconf("SC_CLK_TCK") == 150, "stolen time is used, too"
    earlier = dataclasses.replace(found, at=found.at - 10, timers={"backup.service": 3.8})
    ran = machine.sample(earlier, found, [], "", 0.0)
    assert ran.timer == "backup.service"
    idle = machine.sample(dataclasses.replace(found, at=found.at - 10), found, [], "", 0.0)
    assert idle.timer == ""


@pytest.mark.parametrize(
    ("timers", "state", "part"),
    [
        ({}, "S", 0.1),
        ({"cron.service": 1.0}, "S", 0.0),
        ({}, "D", 0.0),
    ],
)
def test_waits_for_disks_are_of_a_minute_and_no_timer_s(
    timers: dict[str, float], state: str, part: float
) -> None:
    """And none of a process that is stuck."""
    first = machine.Reading(at=0.0, busy_s=0, idle_s=0, all_s=0, networks={}, terminals={})
    sampler = machine.Sampler(traces.settings(), 0.0)
    known = dataclasses.replace(PERSON, state=state)
    second = dataclasses.replace(first, at=10.0)
    sampler.complete(machine.sample(first, second, [], "", 10.0), second, [], look(10.0, known))
    half = dataclasses.replace(first, at=40.0, timers=timers)
    third = dataclasses.replace(first, at=30.0)
    found = sampler.complete(machine.sample(third, half, [], "", 40.0), half, [])
    last = dataclasses.replace(half, at=70.0, stalled_s=6.0)
    assert found.stalled == 0
    sample = machine.sample(half, last, [], "", 70.0)
    assert sampler.complete(sample, last, [], look(70.0, known)).stalled == part
