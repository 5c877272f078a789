"""Signs of people and their jobs that no counter of the whole machine shows.

A sign comes from two looks, a minute apart. docs/idle.md says what each sign means.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from golden_idle import daemons, notebooks, sockets
from golden_idle.notebooks import UNKNOWN, Server
from golden_idle.sockets import Connection

LOOK_S = 60
"""Seconds between looks. All numbers of bytes and page faults below are for a minute."""
TRAFFIC = 2048
"""Bytes that a client may send without a person: keep-alives of SSH every 15 s are 208 bytes, of a
page of VS Code 228, and 720 if SSH forwards those."""
ENVELOPE = 1.25
"""Bytes of SSH for each forwarded byte, at most: requests of a page need 1.05."""
QUESTION = 200
"""Bytes of a request: one by HTTP has more, a keep-alive of a database's connection less."""
ANSWER_MS, LATER_MS = 900_000, 1000
"""Milliseconds after which nobody waits for an answer: NAT gateways drop a connection that is
silent for 350 s. Programs of one machine talk all the time: there a question is one that nothing
follows for a second."""
HOT, SPINNING, STILL_BYTES, STILL_FAULTS = 0.05, 0.6, 1024, 50
"""A spin: cores, the share of a thread's time in the kernel (0.77 if it polls a socket), and the
bytes and page faults that a job at work exceeds."""
COLD, LEAST, WAKES = 0.1, 0.0005, 50
"""Cores below which a program may only watch, and of which nothing is asked; how often a second
a cell at input() wakes, each 10 ms."""
GLANCE_S, AGENT_S = 0.001, 0.01
"""Seconds of CPU that a program needs each time that it wakes and only watches, of Ray's store
0.00004; and that an agent in a container needs."""
_KERNEL_THREAD = 0x200000
"""PF_KTHREAD, include/linux/sched.h."""
_TICKS = os.sysconf("SC_CLK_TCK")
_NEW = Connection(0, False, False, 0, 0, 0, 0)
"""A connection that has moved nothing yet: what an unknown one was before."""


@dataclass(frozen=True)
class Process:
    """A process at a look. `began`, in ticks, tells it from a later process with the same id."""

    began: int
    name: str
    kind: str
    """`daemon`, `person`, `container`, `ssh` or `jupyter`"""
    state: str = ""
    cpu_s: float = 0.0
    """of the process and of its children that have ended"""
    faults: int = 0
    moved: int = 0
    """bytes read and written by system calls: files, pipes, terminals"""
    sockets: tuple[int, ...] = ()
    threads: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    """seconds outside and inside the kernel, and how often it slept, of each thread of a process
    that computes"""
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
    """The signs that two looks show of people, and of jobs that make progress or wait for an
    answer. And what was used: CPU seconds of processes that only spin or watch, bytes of jobs from
    disks and to them, and of their own connections to other machines."""

    used: tuple[str, ...] = ()
    spun: float = 0.0
    stored: int = 0
    moved: int = 0
    gpus_spin: bool = False
    """whether all processes that hold GPU memory only spin, while GPUs do"""


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
                root, folder / entry, own_pids, before, at - earlier.at if earlier else LOOK_S
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
    root: Path, folder: Path, own_pids: str, earlier: Process | None, seconds: float
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
    kind = earlier.kind if earlier else _kind(root, folder, own_pids, name)
    if kind == "daemon":
        return Process(began, name, kind)
    cpu = sum(map(int, words[11:15])) / _TICKS
    io = dict(line.split(b": ") for line in _text(folder / "io").splitlines())
    # Reading each thread is costly, so only of a process that computes.
    computes = earlier is not None and cpu - earlier.cpu_s >= LEAST * seconds
    return Process(
        began,
        name,
        kind,
        words[0].decode(),
        cpu,
        int(words[7]) + int(words[9]),
        int(io[b"rchar"]) + int(io[b"wchar"]),
        tuple(_sockets(folder / "fd")),
        dict(_threads(folder / "task")) if computes else {},
        int(io[b"read_bytes"]) + int(io[b"write_bytes"]),
    )


def _kind(root: Path, folder: Path, own_pids: str, name: str) -> str:
    if name.startswith("sshd"):
        return "ssh"
    words = _text(folder / "cmdline")
    if b"jupyter" in words or b"ipykernel" in words:
        return "jupyter"
    if _link(folder / "ns/pid") not in (own_pids, ""):
        return "container"
    # The last line is that of version 2.
    group = _text(folder / "cgroup").decode().splitlines()[-1].partition("::")[2]
    return "daemon" if daemons.has(root, group) else "person"


def _sockets(folder: Path) -> Iterator[int]:
    for name in _names(folder):
        target = _link(folder / name)
        if target.startswith("socket:["):
            yield int(target[8:-1])


def _threads(folder: Path) -> Iterator[tuple[str, tuple[float, float, int]]]:
    for name in _names(folder):
        words = _text(folder / name / "stat").rpartition(b")")[2].split()
        rows = _text(folder / name / "status").splitlines()
        slept = next(int(row.split()[1]) for row in rows if row.startswith(b"voluntary"))
        yield name, (int(words[11]) / _TICKS, int(words[12]) / _TICKS, slept)


def signs(earlier: Look, later: Look, gpus_spin: bool = False) -> Signs:
    """Return the signs of what happened between two looks. `gpus_spin` says that the GPUs that
    worked only polled."""
    seconds = max(1.0, later.at - earlier.at)
    pairs = {
        pid: (earlier.processes[pid], process)
        for pid, process in later.processes.items()
        if pid in earlier.processes and earlier.processes[pid].began == process.began
    }
    ran = {pid: dict(_ran(before, after)) for pid, (before, after) in pairs.items()}
    spinning = {
        pid
        for pid, (before, after) in pairs.items()
        if ((gpus_spin and pid in later.holders) or _spins(ran[pid], seconds))
        and _is_still(before, after, earlier, later)
    }
    watching = {pid for pid, (_, after) in pairs.items() if _watches(after, ran[pid], seconds)}
    asking = [
        pid
        for pid in watching
        if pairs[pid][1].kind == "jupyter" and ran[pid][str(pid)][2] >= WAKES * seconds
    ]
    return Signs(
        (
            *(
                f"{after.name} ({pid}) waits for a disk or a file system, and goes on"
                for pid, (before, after) in pairs.items()
                if after.state == "D" and replace(after, state=before.state) != before
            ),
            *_clients(earlier, later, seconds),
            *notebooks.activity(earlier.servers, later.servers, len(asking)),
            *_waits(earlier, later),
        ),
        sum(user + system for pid in spinning | watching for user, system, _ in ran[pid].values()),
        sum(after.stored - before.stored for before, after in pairs.values()),
        sum(dict(_moved(earlier, later)).values()),
        gpus_spin and bool(later.holders) and spinning.issuperset(later.holders),
    )


def _ran(before: Process, after: Process) -> Iterator[tuple[str, tuple[float, float, int]]]:
    """Yield by how much the counters of each thread grew."""
    for name in before.threads.keys() & after.threads.keys():
        (user, system, slept), old = after.threads[name], before.threads[name]
        yield name, (user - old[0], system - old[1], slept - old[2])


def _spins(ran: Mapping[str, tuple[float, float, int]], seconds: float) -> bool:
    """Return whether a process computes, and each thread that runs is in the kernel most of the
    time."""
    hot = [(user, system) for user, system, _ in ran.values() if user + system >= HOT / 2 * seconds]
    return sum(map(sum, hot)) >= HOT * seconds and all(
        system >= SPINNING * (user + system) for user, system in hot
    )


def _watches(process: Process, ran: Mapping[str, tuple[float, float, int]], seconds: float) -> bool:
    """Return whether a process computes little, and for a moment each time that it wakes."""
    used = sum(user + system for user, system, _ in ran.values())
    wakes = sum(slept for *_, slept in ran.values())
    glance = AGENT_S if process.kind == "container" else GLANCE_S
    return 0 < used < min(COLD * seconds, wakes * glance)


def _is_still(before: Process, after: Process, earlier: Look, later: Look) -> bool:
    """Return whether a process has read, written, sent and touched nearly nothing."""
    sent = sum(
        each.since(earlier.connections.get(key, _NEW))
        for key, each in _connections_of(later, after)
    )
    return (
        after.moved - before.moved <= STILL_BYTES
        and sent <= STILL_BYTES
        and after.faults - before.faults <= STILL_FAULTS
    )


def _connections_of(moment: Look, process: Process) -> list[tuple[str, Connection]]:
    inodes = set(process.sockets)
    return [item for item in moment.connections.items() if item[1].inode in inodes]


def _moved(earlier: Look, later: Look) -> Iterator[tuple[str, int]]:
    """Yield the bytes of each connection that a job opened to another machine."""
    for process in later.processes.values():
        if process.kind != "ssh":
            for key, after in _connections_of(later, process):
                if not after.local and not after.accepted:
                    yield key, after.since(earlier.connections.get(key, _NEW))


def _clients(earlier: Look, later: Look, seconds: float) -> Iterator[str]:
    """Yield signs of people: servers that get more than keep-alives from them.

    Data that a session forwards to a server on this machine does not count as the session's: that
    server is examined itself. Jobs' servers get data from each other, too, which is nobody's.
    """
    # Two processes of sshd hold a session's connection; the later one forwards.
    last_user = {
        inode: pid for pid, process in sorted(later.processes.items()) for inode in process.sockets
    }
    for pid, process in later.processes.items():
        received = forwarded = 0
        for key, after in _connections_of(later, process):
            before = earlier.connections.get(key, _NEW)
            peer = later.processes.get(last_user.get(after.peer, 0))
            by_user = after.accepted and (peer is None or peer.kind == "ssh")
            if by_user and last_user[after.inode] == pid:
                received += after.received - before.received
            forwarded += (after.sent - before.sent) * (not after.accepted)
        # A page of Jupyter polls by itself, so the server's own answer counts if it gives one.
        silent = later.servers.get(str(pid), UNKNOWN) == UNKNOWN
        forwarded *= process.kind == "ssh"
        if silent and received - ENVELOPE * forwarded > TRAFFIC * seconds / LOOK_S:
            yield f"{process.name} ({pid}) gets data from its user"


def _waits(earlier: Look, later: Look) -> Iterator[str]:
    """Yield jobs that have a connection on which the last message was a request and not an answer.

    The parts of Jupyter talk to each other, so only their connections to other machines count.
    """
    for pid, process in later.processes.items():
        if process.kind != "ssh":
            connections = [
                (earlier.connections.get(key, _NEW), connection)
                for key, connection in _connections_of(later, process)
                if not (connection.local and process.kind == "jupyter")
            ]
            if any(_awaits_answer(before, after) for before, after in connections):
                yield f"{process.name} ({pid}) waits for an answer"


def _awaits_answer(before: Connection, after: Connection) -> bool:
    """Return whether the other end owes an answer, or does not take the connection yet.

    The kernel's times are in steps of some milliseconds. If both directions have the same time, the
    message that was sent counts as a request if it was long enough. A new connection has sent one
    byte, its handshake.
    """
    if after.opens:
        return True
    if after.accepted or after.sent <= 1 or after.received_ms > ANSWER_MS:
        return False
    if not after.received:
        return True
    if after.local:
        return after.sent_ms + LATER_MS < after.received_ms
    is_request = after.sent - before.sent >= QUESTION
    return after.sent_ms < after.received_ms or (after.sent_ms == after.received_ms and is_request)
