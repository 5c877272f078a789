"""Signs of people and their jobs that no counter of the whole machine shows.

A sign comes from two looks, a minute apart. docs/idle.md says what each sign means.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from golden_idle import notebooks, sockets
from golden_idle.notebooks import UNKNOWN, Server
from golden_idle.sockets import Connection

LOOK_S = 60
"""Seconds between looks. All numbers of bytes and page faults below are for a minute."""
TRAFFIC = 2048
"""Bytes that a client may send without a person: keep-alives of SSH every 15 s are 208 bytes, of a
page of VS Code 228, and 720 if SSH forwards those."""
ENVELOPE = 1.25
"""Bytes of SSH for each forwarded byte, at most: requests of a page need 1.05."""
TRANSFER, STORED = 65_536, 6_000_000
"""Bytes that show a job: with other machines 1 kB/s, which is more than health checks; with disks
0.1 MB/s, which is more than logs."""
QUESTION = 200
"""Bytes of a request: one by HTTP has more, a keep-alive of a database's connection less."""
ANSWER_MS = 900_000
"""Milliseconds after which nobody waits for an answer: NAT gateways drop a connection that is
silent for 350 s."""
CONTAINERS, HOLDER, HOT = 0.05, 0.002, 0.2
"""Cores: of all containers; of a process that holds GPU memory (a notebook's kernel without work
uses 0.0001); of a process whose threads are examined."""
SPINNING, STILL_BYTES, STILL_FAULTS = 0.6, 1024, 50
"""The share of a thread's time in the kernel that shows polling (0.77 if it polls a socket), and
the bytes and page faults that a job at work exceeds."""
_KERNEL_THREAD = 0x200000
"""PF_KTHREAD, include/linux/sched.h."""
_TICKS = os.sysconf("SC_CLK_TCK")
_EDITORS = (
    b"vscode-server",
    b"code-server",
    b"cursor-server",
    b"windsurf-server",
    b"positron-server",
    b"remote-dev-server",
    b"zed-remote-server",
    b"rstudio-server",
)
_JOBS = ("person", "container")
_NEW = Connection(0, False, False, 0, 0, 0, 0)
"""A connection that has moved nothing yet: what an unknown one was before."""
_DAEMON = re.compile(
    rb"/init\.scope$|/system\.slice/(?:[^/]+\.slice/)?"
    rb"(?!run-|[^/]*(?:jupyter|rstudio))[^/]+\.service"
)
"""Control groups of the machine's own daemons. Units of `systemd-run` and of notebooks are left
out: they run people's work."""


@dataclass(frozen=True)
class Process:
    """A process at a look. `began`, in ticks, tells it from a later process with the same id."""

    began: int
    name: str
    kind: str
    """`daemon`, `person`, `container`, `ssh`, `editor` or `jupyter`"""
    state: str = ""
    cpu_s: float = 0.0
    """of the process and of its children that have ended"""
    faults: int = 0
    moved: int = 0
    """bytes read and written by system calls: files, pipes, terminals"""
    sockets: tuple[int, ...] = ()
    threads: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """seconds outside and inside the kernel, of the threads of a process that computes"""
    stored: int = 0
    """bytes read from disks and network file systems, and written to them"""


@dataclass(frozen=True)
class Look:
    """The state at a second: processes without daemons, connections, Jupyter servers, and the
    processes that hold GPU memory."""

    at: float
    processes: Mapping[int, Process]
    connections: Mapping[str, Connection]
    servers: Mapping[str, Server]
    holders: tuple[int, ...] = ()


@dataclass(frozen=True)
class Signs:
    """The signs that two looks show."""

    used: tuple[str, ...] = ()
    """people, and jobs that make progress"""
    waits: tuple[str, ...] = ()
    """jobs that wait for an answer"""
    spun: float = 0.0
    """busy cores of processes that only poll"""
    gpus_spin: bool = False
    """whether all processes that hold GPU memory only poll, while GPUs spin"""
    stuck: bool = False
    """whether a process waits for a disk or a file system and makes no progress"""


def look(root: Path, at: float, earlier: Look | None, holders: tuple[int, ...] = ()) -> Look:
    """Look at all processes. `earlier` has the kinds of known processes, and shows which have
    computed since."""
    folder = root / "proc"
    processes = dict[int, Process]()
    namespaces = {_link(folder / "self/ns/net"): folder / "self/ns/net"}
    own_pids = _link(folder / "self/ns/pid")
    for entry in filter(str.isdigit, _names(folder)):
        before = earlier.processes.get(int(entry)) if earlier else None
        try:
            process = _process(
                folder / entry, own_pids, before, at - earlier.at if earlier else LOOK_S
            )
        except (OSError, ValueError, IndexError):
            continue  # the process has ended meanwhile
        if process and process.kind != "daemon":
            processes[int(entry)] = process
            # A container has connections of its own, which this namespace does not show.
            if process.kind == "container":
                namespaces.setdefault(_link(folder / entry / "ns/net"), folder / entry / "ns/net")
    jupyter_pids = [pid for pid, process in processes.items() if process.kind == "jupyter"]
    return Look(at, processes, sockets.read(namespaces), notebooks.ask(root, jupyter_pids), holders)


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - `pid:[1]` is no path
    except OSError:
        return ""


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _text(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return file.read(1 << 16)


def _process(
    folder: Path, own_pids: str, earlier: Process | None, seconds: float
) -> Process | None:
    """Return a process, or None for a kernel thread or a zombie."""
    # The name may contain spaces and parentheses, so the last one ends it (proc_pid_stat(5)).
    head, _, tail = _text(folder / "stat").rpartition(b")")
    words = tail.split()
    if int(words[6]) & _KERNEL_THREAD or words[0] == b"Z":
        return None
    began, name = int(words[19]), head.partition(b"(")[2].decode(errors="replace")
    if earlier is not None and (earlier.began, earlier.name) != (began, name):
        earlier = None
    kind = earlier.kind if earlier else _kind(folder, own_pids, name)
    if kind == "daemon":
        return Process(began, name, kind)
    cpu = sum(map(int, words[11:15])) / _TICKS
    io = dict(line.split(b": ") for line in _text(folder / "io").splitlines())
    # Reading each thread is costly, so only of a process that computes.
    hot = earlier is not None and cpu - earlier.cpu_s >= HOT * seconds
    return Process(
        began,
        name,
        kind,
        words[0].decode(),
        cpu,
        int(words[7]) + int(words[9]),
        int(io[b"rchar"]) + int(io[b"wchar"]),
        tuple(_sockets(folder / "fd")),
        dict(_threads(folder / "task")) if hot else {},
        int(io[b"read_bytes"]) + int(io[b"write_bytes"]),
    )


def _kind(folder: Path, own_pids: str, name: str) -> str:
    if name.startswith("sshd"):
        return "ssh"
    words = _text(folder / "cmdline")
    if b"jupyter" in words or b"ipykernel" in words:
        return "jupyter"
    if any(editor in words for editor in _EDITORS):
        return "editor"
    if _link(folder / "ns/pid") not in (own_pids, ""):
        return "container"
    group = _text(folder / "cgroup").splitlines()[-1]
    return "daemon" if _DAEMON.search(group) else "person"


def _sockets(folder: Path) -> Iterator[int]:
    for name in _names(folder):
        target = _link(folder / name)
        if target.startswith("socket:["):
            yield int(target[8:-1])


def _threads(folder: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    for name in _names(folder):
        words = _text(folder / name / "stat").rpartition(b")")[2].split()
        yield name, (int(words[11]) / _TICKS, int(words[12]) / _TICKS)


def signs(earlier: Look, later: Look, gpus_spin: bool = False) -> Signs:
    """Return the signs of what happened between two looks. `gpus_spin` says that the GPUs that
    worked only polled."""
    seconds = max(1.0, later.at - earlier.at)
    pairs = {
        pid: (earlier.processes[pid], process)
        for pid, process in later.processes.items()
        if pid in earlier.processes and earlier.processes[pid].began == process.began
    }
    cores = {pid: (after.cpu_s - before.cpu_s) / seconds for pid, (before, after) in pairs.items()}
    spinning = {
        pid
        for pid, (before, after) in pairs.items()
        if ((gpus_spin and pid in later.holders) or _spins(before, after, seconds))
        and _is_still(before, after, earlier, later)
    }
    spun = sum(cores.pop(pid) for pid in spinning)
    used = (
        *_jobs(pairs, cores, later.holders, seconds / LOOK_S),
        *_clients(earlier, later, seconds),
        *notebooks.activity(earlier.servers, later.servers),
    )
    return Signs(
        used,
        tuple(_waits(earlier, later)),
        spun,
        gpus_spin and bool(later.holders) and spinning.issuperset(later.holders),
        any(
            before.state == after.state == "D" and not _makes_progress(before, after)
            for before, after in pairs.values()
        ),
    )


def _makes_progress(before: Process, after: Process) -> bool:
    """Return whether a process has computed, read, written or touched memory."""
    return (before.cpu_s, before.moved, before.faults) != (after.cpu_s, after.moved, after.faults)


def _spins(before: Process, after: Process, seconds: float) -> bool:
    """Return whether each thread that runs is in the kernel most of the time."""
    times = [
        (user - before.threads[name][0], system - before.threads[name][1])
        for name, (user, system) in after.threads.items()
        if name in before.threads
    ]
    hot = [(user, system) for user, system in times if user + system >= HOT / 2 * seconds]
    return bool(hot) and all(system >= SPINNING * (user + system) for user, system in hot)


def _is_still(before: Process, after: Process, earlier: Look, later: Look) -> bool:
    """Return whether a process has read, written, sent and touched nearly nothing."""
    sent = sum(
        _bytes_moved(earlier.connections.get(key, _NEW), connection)
        for key, connection in _connections_of(later, after)
    )
    return (
        after.moved - before.moved <= STILL_BYTES
        and sent <= STILL_BYTES
        and after.faults - before.faults <= STILL_FAULTS
    )


def _connections_of(moment: Look, process: Process) -> Iterator[tuple[str, Connection]]:
    inodes = set(process.sockets)
    return (
        (key, connection)
        for key, connection in moment.connections.items()
        if connection.inode in inodes
    )


def _bytes_moved(before: Connection, after: Connection) -> int:
    return after.received + after.sent - before.received - before.sent


def _jobs(
    pairs: Mapping[int, tuple[Process, Process]],
    cores: Mapping[int, float],
    holders: tuple[int, ...],
    minutes: float,
) -> Iterator[str]:
    container_cores = sum(
        core_share for pid, core_share in cores.items() if pairs[pid][1].kind == "container"
    )
    if container_cores >= CONTAINERS:
        yield f"containers use {container_cores:.2f} cores"
    for pid, (before, after) in pairs.items():
        if pid in holders and cores.get(pid, 0) >= HOLDER:
            yield f"{after.name} ({pid}) holds GPU memory and computes"
        if pid in cores and after.stored - before.stored >= STORED * minutes:
            yield f"{after.name} ({pid}) reads or writes disks"
        if after.state == "D" and _makes_progress(before, after):
            yield f"{after.name} ({pid}) waits for a disk or a file system, and goes on"


def _clients(earlier: Look, later: Look, seconds: float) -> Iterator[str]:
    """Yield signs of data beyond keep-alives: from users, and of jobs with other machines.

    Data that a session forwards to a server on this machine does not count as the session's: that
    server is examined itself.
    """
    minutes = seconds / LOOK_S
    # Two processes of sshd hold a session's connection; the later one forwards.
    last_user = {
        inode: pid for pid, process in sorted(later.processes.items()) for inode in process.sockets
    }
    for pid, process in later.processes.items():
        received = forwarded = outside = 0
        for key, after in _connections_of(later, process):
            before = earlier.connections.get(key, _NEW)
            if last_user[after.inode] == pid:
                received += (after.received - before.received) * after.accepted
            forwarded += (after.sent - before.sent) * (not after.accepted)
            outside += _bytes_moved(before, after) * (not after.local)
        if process.kind in _JOBS and outside >= TRANSFER * minutes:
            yield f"{process.name} ({pid}) moves data to or from other machines"
        # A page of Jupyter polls by itself, so the server's own answer counts if it gives one.
        silent = later.servers.get(str(pid), UNKNOWN) == UNKNOWN
        by_user = process.kind in ("ssh", "editor") or (process.kind == "jupyter" and silent)
        if by_user and received - ENVELOPE * forwarded > TRAFFIC * minutes:
            yield f"{process.name} ({pid}) gets data from its user"


def _waits(earlier: Look, later: Look) -> Iterator[str]:
    """Yield jobs that have a connection on which the last message was a request and not an answer.

    The parts of Jupyter talk to each other, so only their connections to other machines count.
    """
    for pid, process in later.processes.items():
        if process.kind in (*_JOBS, "jupyter"):
            connections = [
                (earlier.connections.get(key, _NEW), connection)
                for key, connection in _connections_of(later, process)
                if not (connection.local and process.kind == "jupyter")
            ]
            if any(_awaits_answer(before, after) for before, after in connections):
                yield f"{process.name} ({pid}) waits for an answer"


def _awaits_answer(before: Connection, after: Connection) -> bool:
    """Return whether the other end owes an answer.

    The kernel's times are in steps of some milliseconds. If both directions have the same time, the
    message that was sent counts as a request if it was long enough. A new connection has sent one
    byte, its handshake.
    """
    if after.accepted or after.sent <= 1 or after.received_ms > ANSWER_MS:
        return False
    is_request = after.sent - before.sent >= QUESTION
    return (
        not after.received
        or after.sent_ms < after.received_ms
        or (after.sent_ms == after.received_ms and is_request)
    )
