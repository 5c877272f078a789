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
from golden_idle import daemons, evidence, machine, notebooks, sockets
from golden_idle.evidence import Look, Process, Signs
from golden_idle.notebooks import UNKNOWN, Server
from golden_idle.settings import CPU
from golden_idle.sockets import Connection
from support import files
from support.loopback import Loopback, QuietHandler

MINUTE = 60.0
PID = 42
OPEN = Connection(7, accepted=True, local=False, received=1000, sent=1000, sent_ms=9, received_ms=5)
ASKED = Connection(7, False, False, received=1000, sent=1000, sent_ms=2000, received_ms=9000)
PERSON = Process(1, "python3", "person")
HOT = {"42": (0.0, 0.0, 0)}
WEB = dataclasses.replace(OPEN, local=True, peer=8)


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
    ("changed", "goes_on"), [({"moved": 1}, True), ({"faults": 1}, True), ({}, False)]
)
def test_a_job_that_waits_for_a_disk_shows_by_what_it_does(
    changed: dict[str, Any], goes_on: bool
) -> None:
    used = seen(dataclasses.replace(PERSON, state="D"), **changed).used
    assert bool(used) == goes_on and "".join(used).endswith("and goes on" if goes_on else "")
    assert seen(PERSON, **changed).used == ()


def test_what_jobs_read_and_move_is_summed_up() -> None:
    assert seen(PERSON, stored=700).stored == 700
    for changed, moved in (({}, 500), ({"local": True}, 0), ({"accepted": True}, 0)):
        mine = dataclasses.replace(ASKED, **changed)
        assert seen(PERSON, {mine: {"received": 1200, "sent": 1300}}).moved == moved
        assert seen(Process(1, "sshd", "ssh"), {mine: {"sent": 1300}}).moved == 0


def test_another_process_of_the_same_number_is_none_that_goes_on() -> None:
    assert seen(PERSON, began=2, stored=10**9).stored == 0


# --- what spins ---


def spin(user: float, system: float, slept: int = 0, **changed: Any) -> Signs:
    """A process whose one thread ran for so long, outside and inside the kernel."""
    process = changed.pop("process", PERSON)
    return seen(
        dataclasses.replace(process, threads=HOT),
        cpu_s=user + system,
        threads={"42": (user, system, slept)},
        **changed,
    )


def test_a_process_spins_that_asks_the_kernel_and_gets_nothing() -> None:
    assert spin(10.0, 40.0).spun == pytest.approx(50)
    assert spin(40.0, 10.0).spun == 0, "it computes"
    assert spin(10.0, 40.0, moved=2000).spun == spin(10.0, 40.0, faults=60).spun == 0
    talks = {OPEN: {"received": 9000}}
    assert spin(10.0, 40.0, connections=talks).spun == 0


def test_a_process_that_computes_is_never_a_spin_though_it_holds_a_gpu_s_memory() -> None:
    assert spin(50.0, 0.0, holders=(PID,)).spun == 0
    assert spin(50.0, 0.0, holders=(PID,), gpus_spin=True).spun == pytest.approx(50)
    assert spin(50.0, 0.0, holders=(PID,), gpus_spin=True, faults=60).spun == 0


@pytest.mark.parametrize(
    ("kind", "used", "slept", "watches"),
    [
        ("person", 1.0, 1001, True),
        ("person", 1.0, 999, False),
        ("person", 6.1, 9999, False),
        ("container", 3.2, 321, True),
        ("container", 3.2, 319, False),
    ],
)
def test_what_wakes_for_a_moment_and_computes_little_only_watches(
    kind: str, used: float, slept: int, watches: bool
) -> None:
    """Whatever computes for longer at a time is a job."""
    assert spin(used, 0.0, slept, process=Process(1, "x", kind)).spun == used * watches


# --- people and other machines ---


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("ssh", {"received": 1000 + 2049}, "gets data from its user"),
        ("ssh", {"received": 1000 + 208, "sent": 10**6}, ""),
        ("jupyter", {"received": 9000}, "gets data from its user"),
        ("person", {"received": 9000}, "gets data from its user"),
        ("container", {"received": 9000}, "gets data from its user"),
        ("person", {"received": 9000, "accepted": False}, ""),
    ],
)
def test_data_is_a_sign_by_who_gets_it(kind: str, changed: dict[str, Any], said: str) -> None:
    used = seen(Process(1, "x", kind), {OPEN: changed}).used
    assert bool(used) == bool(said) and said in "".join(used)


@pytest.mark.parametrize(
    ("client", "by_user"), [("ssh", True), ("person", False), ("jupyter", False), ("", True)]
)
def test_data_from_this_machine_is_a_user_s_if_a_session_or_a_daemon_hands_it_on(
    client: str, by_user: bool
) -> None:
    """Whatever the editor is called."""
    editor = Process(1, "marimo", "person", sockets=(7,))
    other = {PID + 1: Process(1, "x", client, sockets=(8,))} if client else {}
    before, after = (
        Look(at, {PID: editor, **other}, {"a": dataclasses.replace(WEB, received=n)}, {})
        for at, n in ((0.0, 1000), (MINUTE, 9000))
    )
    assert bool(evidence.signs(before, after).used) == by_user


@pytest.mark.parametrize(
    ("kind", "changed", "waits"),
    [
        ("person", {}, True),
        ("container", {}, True),
        ("jupyter", {}, True),
        ("ssh", {}, False),
        ("jupyter", {"local": True}, False),
        ("person", {"local": True}, True),
        ("person", {"local": True, "sent_ms": 8001}, False),
        ("person", {"opens": True, "sent": 0, "received": 0}, True),
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
    assert bool(seen(Process(1, "x", kind), {ASKED: changed}).used) == waits


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
    files.write(tmp_path, {"usr/lib/systemd/system/cron.service": "", "etc/machine-id": "x"})
    people = "0::/user.slice/user-1000.slice/session-1.scope"
    kinds = {
        "ssh": ("sshd-session", "sshd: ann", people),
        "person": ("python3", "train.py", people),
        "jupyter": ("jupyter-lab", "/usr/bin/jupyter-lab", "0::/system.slice/jupyterhub.service"),
        "daemon": ("cron", "/usr/sbin/cron", "0::/system.slice/cron.service"),
        "container": ("etl", "etl", "0::/system.slice/docker-1.scope"),
    }
    for number, (kind, (name, words, group)) in enumerate(kinds.items(), 10):
        space = "pid:[2]" if kind == "container" else "pid:[1]"
        process(tmp_path / "proc" / str(number), name, words, group, space)
    process(tmp_path / "proc/99", "kworker/0", "", "0::/", "pid:[1]", flags=evidence._KERNEL_THREAD)
    first = evidence.look(tmp_path, 5.0, None)
    assert {each.kind for each in first.processes.values()} == kinds.keys() - {"daemon"}
    assert first.processes[10] == Process(
        77, "sshd-session", "ssh", "S", 1.0, 30, 300, (1234,), {}, 9
    )
    stat = (tmp_path / "proc/11/stat").read_text(encoding="utf-8")
    files.write(
        tmp_path / "proc/11",
        {"stat": stat.replace(" 100 0 0 0 ", " 300 0 0 0 "), "task/11/stat": stat}
        | {"task/11/status": "Name: x\nvoluntary_ctxt_switches:\t7\nnonvoluntary: 9\n"},
    )
    again = evidence.look(tmp_path, 65.0, first).processes
    assert (again[11].threads, again[10].threads) == ({"11": (1.0, 0.0, 7)}, {})


@pytest.mark.parametrize(
    ("group", "is_daemon"),
    [
        ("/system.slice/ssh.service", True),
        ("/init.scope", True),
        ("/system.slice/system-getty.slice/getty@tty1.service", True),
        ("/system.slice/jupyterhub.service", False),
        ("/system.slice/run-u12.service", False),
        ("/system.slice/train.service", False),
        ("/system.slice/gone.service", False),
        ("/system.slice/docker-1.scope", False),
        ("/system.slice/slurmstepd.scope/job_1", False),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service", False),
        ("/", False),
    ],
)
def test_a_daemon_is_known_by_its_unit_which_is_older_than_the_machine(
    tmp_path: Path, group: str, is_daemon: bool
) -> None:
    units = tmp_path / "etc/systemd/system"
    files.write(units, {"ssh.service": "", "getty@.service": "", "jupyterhub.service": ""})
    files.write(tmp_path, {"etc/machine-id": ""})
    at = (tmp_path / "etc/machine-id").stat().st_ctime_ns
    later = units / "train.service"
    later.touch()
    while later.stat().st_ctime_ns <= at:  # the file system's clock has steps
        later.touch()
    assert daemons.has(tmp_path, group) == is_daemon


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


def test_a_cell_that_asks_for_input_is_none_that_runs() -> None:
    running = {"7": Server("noon", 1)}
    assert [*notebooks.activity({}, running, 1)] == []
    assert [*notebooks.activity({}, running, 0)] == ["Jupyter runs a cell"]
    kernel = dataclasses.replace(PERSON, kind="jupyter", threads=HOT)
    for slept, runs in ((60 * 90, False), (60 * 40, True)):
        after = dataclasses.replace(kernel, cpu_s=0.5, threads={"42": (0.5, 0.0, slept)})
        found = evidence.signs(
            look(0.0, kernel, servers=running), look(MINUTE, after, servers=running)
        )
        assert bool(found.used) == runs, slept


# --- the whole machine ---


def test_cpu_time_is_that_of_control_groups_and_of_a_daemon_a_twelfth(tmp_path: Path) -> None:
    units = {"etc/systemd/system/backup.timer": "", "usr/lib/systemd/system/backup.service": ""}
    files.write(tmp_path, {**units, "etc/machine-id": ""})
    files.write(tmp_path / "proc", {"stat": "cpu 100 0 0 0 0 0 0 50 0 0\n", "net/dev": "a\nb\n"})

    def at(seconds: float, **groups: float) -> machine.Reading:
        for name, used in groups.items():
            folder = tmp_path / "sys/fs/cgroup" / name.replace("__", ".").replace("_", "/")
            files.write(folder, {"cpu.stat": f"usage_usec {used * 1e6:.0f}\nuser_usec 0\n"})
        return dataclasses.replace(machine.read(tmp_path), at=seconds)

    backup = "system__slice_backup__service"
    first = at(0.0, user__slice=5.0, system__slice=9.0, init__scope=1.0, **{backup: 8.0})
    assert machine.sample(first, dataclasses.replace(first, at=10.0), [], "", 0.0).timer == ""
    second = at(10.0, user__slice=6.0, system__slice=22.0, init__scope=5.0, **{backup: 20.0})
    found = machine.sample(first, second, [], "", 0.0)
    assert found.amounts[CPU] == pytest.approx(1 + 1 + 12 / 12), "people, jobs, daemons"
    assert found.timer == "backup.service"


def test_without_control_groups_all_use_counts(tmp_path: Path) -> None:
    files.write(tmp_path / "proc", {"stat": "cpu 100 0 0 70 9 0 0 50\n", "net/dev": "a\nb\n"})
    [used] = machine.read(tmp_path).groups.values()
    assert used * os.sysconf("SC_CLK_TCK") == 150, "stolen time is used, too"
