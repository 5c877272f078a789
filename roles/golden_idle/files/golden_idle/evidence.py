"""What people and their jobs do that no counter of the whole machine shows.

Two looks, a minute apart, make signs. docs/idle.md says what each sign means.
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
"""Seconds between looks. All bytes and page faults below are of a minute."""
TRAFFIC = 2048
"""Bytes that a client sends without a person: keep-alives of SSH each 15 s are 208, of a page of VS
Code 228, and 720 where SSH forwards those."""
ENVELOPE = 1.25
"""Bytes of SSH for a byte that is forwarded: 1.05 of a page's questions."""
TRANSFER, STORED = 65_536, 6_000_000
"""Bytes of a job: with other machines, 1 kB/s, which is more than it says of its health; with
disks, 0.1 MB/s, which is more than logs."""
QUESTION = 200
"""Bytes: a question by HTTP has more, what keeps a connection to a database less."""
ANSWER_MS = 900_000
"""After so long nobody waits for an answer: NAT gateways drop what is silent for 350 s."""
CONTAINERS, HOLDER, HOT = 0.05, 0.002, 0.2
"""Cores: of all containers, of one that holds GPU memory (a notebook's kernel without work has
0.0001), of one whose threads are looked at."""
SPINNING, STILL_BYTES, STILL_FAULTS = 0.6, 1024, 50
"""Part of a thread's time in the kernel that makes it a spin (0.77 where it asks a socket); what a
job at work exceeds."""
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
_DAEMON = re.compile(
    rb"/init\.scope$|/system\.slice/(?:[^/]+\.slice/)?"
    rb"(?!run-|[^/]*(?:jupyter|rstudio))[^/]+\.service"
)
"""Control groups of the machine's own; `systemd-run`'s and notebooks' units hold people's work."""


@dataclass(frozen=True)
class Process:
    """A process at a look. `began`, in ticks, tells it from a later one of its number."""

    began: int
    name: str
    kind: str
    """`daemon`, `person`, `container`, `ssh`, `editor` or `jupyter`"""
    state: str = ""
    cpu_s: float = 0.0
    """of it, and of its children that ended"""
    faults: int = 0
    moved: int = 0
    """bytes read and written by calls: files, pipes, terminals"""
    sockets: tuple[int, ...] = ()
    threads: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """seconds outside and inside the kernel, of the threads of a process that computes"""
    stored: int = 0
    """bytes read from disks and network file systems, and written to them"""


@dataclass(frozen=True)
class Look:
    """All but daemons, connections, Jupyter servers, and who holds GPU memory, at a second."""

    at: float
    processes: Mapping[int, Process]
    connections: Mapping[str, Connection]
    servers: Mapping[str, Server]
    holders: tuple[int, ...] = ()


@dataclass(frozen=True)
class Signs:
    """What two looks show."""

    used: tuple[str, ...] = ()
    """people, and jobs that go on"""
    waits: tuple[str, ...] = ()
    """jobs that wait for others"""
    spun: float = 0.0
    """cores that ask again and again and get nothing"""
    gpus_spin: bool = False
    """whether all who hold GPU memory do nothing but that, while GPUs spin"""
    stuck: bool = False
    """whether a process waits for a disk or a file system and gets nothing"""


def look(root: Path, at: float, earlier: Look | None, holders: tuple[int, ...] = ()) -> Look:
    """Look at all processes; `earlier` says which are known, and which computed since."""
    folder = root / "proc"
    processes = dict[int, Process]()
    networks = {_link(folder / "self/ns/net"): folder / "self/ns/net"}
    own = _link(folder / "self/ns/pid")
    for entry in filter(str.isdigit, _names(folder)):
        known = earlier.processes.get(int(entry)) if earlier else None
        try:
            process = _process(folder / entry, own, known, at - earlier.at if earlier else LOOK_S)
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
        if process and process.kind != "daemon":
            processes[int(entry)] = process
            if process.kind == "container":
                networks.setdefault(_link(folder / entry / "ns/net"), folder / entry / "ns/net")
    asked = [pid for pid, each in processes.items() if each.kind == "jupyter"]
    return Look(at, processes, sockets.read(networks), notebooks.ask(root, asked), holders)


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


def _process(folder: Path, own: str, known: Process | None, seconds: float) -> Process | None:
    """A process that is no thread of the kernel."""
    before, _, after = _text(folder / "stat").rpartition(b")")
    words = after.split()
    if int(words[6]) & _KERNEL_THREAD or words[0] == b"Z":
        return None
    began, name = int(words[19]), before.partition(b"(")[2].decode(errors="replace")
    if known is not None and (known.began, known.name) != (began, name):
        known = None
    kind = known.kind if known else _kind(folder, own, name)
    if kind == "daemon":
        return Process(began, name, kind)
    cpu = sum(map(int, words[11:15])) / _TICKS
    io = dict(line.split(b": ") for line in _text(folder / "io").splitlines())
    hot = known is not None and cpu - known.cpu_s >= HOT * seconds
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


def _kind(folder: Path, own: str, name: str) -> str:
    if name.startswith("sshd"):
        return "ssh"
    words = _text(folder / "cmdline")
    if b"jupyter" in words or b"ipykernel" in words:
        return "jupyter"
    if any(editor in words for editor in _EDITORS):
        return "editor"
    if _link(folder / "ns/pid") not in (own, ""):
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
    """What happened between two looks. `gpus_spin`: GPUs that worked did no more than that."""
    seconds = max(1.0, later.at - earlier.at)
    pairs = {
        pid: (earlier.processes[pid], each)
        for pid, each in later.processes.items()
        if pid in earlier.processes and earlier.processes[pid].began == each.began
    }
    cores = {pid: (new.cpu_s - old.cpu_s) / seconds for pid, (old, new) in pairs.items()}
    spins = {
        pid
        for pid, (old, new) in pairs.items()
        if ((gpus_spin and pid in later.holders) or _spins(old, new, seconds))
        and _still(old, new, earlier, later)
    }
    spun = sum(cores.pop(pid) for pid in spins)
    used = (
        *_jobs(pairs, cores, later.holders, seconds / LOOK_S),
        *_clients(earlier, later, seconds),
        *notebooks.activity(earlier.servers, later.servers),
    )
    return Signs(
        used,
        tuple(_waits(earlier, later)),
        spun,
        gpus_spin and bool(later.holders) and spins.issuperset(later.holders),
        any(
            old.state == new.state == "D" and not _went_on(old, new) for old, new in pairs.values()
        ),
    )


def _went_on(old: Process, new: Process) -> bool:
    return (old.cpu_s, old.moved, old.faults) != (new.cpu_s, new.moved, new.faults)


def _spins(old: Process, new: Process, seconds: float) -> bool:
    """Whether each thread that runs asks the kernel most of the time."""
    ran = [
        (user - old.threads[name][0], system - old.threads[name][1])
        for name, (user, system) in new.threads.items()
        if name in old.threads
    ]
    hot = [(user, system) for user, system in ran if user + system >= HOT / 2 * seconds]
    return bool(hot) and all(system >= SPINNING * (user + system) for user, system in hot)


def _still(old: Process, new: Process, earlier: Look, later: Look) -> bool:
    """Whether a process has read, written, sent and touched nothing."""
    sent = sum(_bytes(earlier.connections.get(key), each) for key, each in _own(later, new))
    return (
        new.moved - old.moved <= STILL_BYTES
        and sent <= STILL_BYTES
        and new.faults - old.faults <= STILL_FAULTS
    )


def _own(at: Look, process: Process) -> Iterator[tuple[str, Connection]]:
    inodes = set(process.sockets)
    return ((key, each) for key, each in at.connections.items() if each.inode in inodes)


def _bytes(old: Connection | None, new: Connection) -> int:
    return new.received + new.sent - (old.received + old.sent if old else 0)


def _jobs(
    pairs: Mapping[int, tuple[Process, Process]],
    cores: Mapping[int, float],
    holders: tuple[int, ...],
    minutes: float,
) -> Iterator[str]:
    contained = sum(used for pid, used in cores.items() if pairs[pid][1].kind == "container")
    if contained >= CONTAINERS:
        yield f"containers use {contained:.2f} cores"
    for pid, (old, new) in pairs.items():
        if pid in holders and cores.get(pid, 0) >= HOLDER:
            yield f"{new.name} ({pid}) holds GPU memory and computes"
        if pid in cores and new.stored - old.stored >= STORED * minutes:
            yield f"{new.name} ({pid}) reads or writes disks"
        if new.state == "D" and _went_on(old, new):
            yield f"{new.name} ({pid}) waits for a disk or a file system, and goes on"


def _clients(earlier: Look, later: Look, seconds: float) -> Iterator[str]:
    """Data beyond what keeps a connection: of users, and of jobs with other machines.

    What a session forwards to a server of this machine is not its own: that server is looked at.
    """
    minutes = seconds / LOOK_S
    # sshd holds a session's connection twice; the later process is the one that forwards.
    last = {inode: pid for pid, each in sorted(later.processes.items()) for inode in each.sockets}
    for pid, process in later.processes.items():
        came = passed = outside = 0
        for key, new in _own(later, process):
            old = earlier.connections.get(key)
            if last[new.inode] == pid:
                came += (new.received - (old.received if old else 0)) * new.accepted
            passed += (new.sent - (old.sent if old else 0)) * (not new.accepted)
            outside += _bytes(old, new) * (not new.local)
        if process.kind in _JOBS and outside >= TRANSFER * minutes:
            yield f"{process.name} ({pid}) moves data to or from other machines"
        # A page of Jupyter asks by itself, so its server's word counts where it gives one.
        silent = later.servers.get(str(pid), UNKNOWN) == UNKNOWN
        by_user = process.kind in ("ssh", "editor") or (process.kind == "jupyter" and silent)
        if by_user and came - ENVELOPE * passed > TRAFFIC * minutes:
            yield f"{process.name} ({pid}) gets data from its user"


def _waits(earlier: Look, later: Look) -> Iterator[str]:
    """Jobs with a connection on which the last that went was a question, not an answer.

    The parts of Jupyter talk to each other: of theirs, connections to other machines.
    """
    for pid, process in later.processes.items():
        if process.kind in (*_JOBS, "jupyter"):
            mine = [
                (earlier.connections.get(key), each)
                for key, each in _own(later, process)
                if not (each.local and process.kind == "jupyter")
            ]
            if any(_is_asked(old, new) for old, new in mine):
                yield f"{process.name} ({pid}) waits for an answer"


def _is_asked(old: Connection | None, new: Connection) -> bool:
    """Whether the other end owes an answer.

    The kernel's times are in steps of some ms: what went both ways in one step was a question if
    it was long enough. A connection that is new has sent one byte, its handshake.
    """
    if new.accepted or new.sent <= 1 or new.received_ms > ANSWER_MS:
        return False
    asked = new.sent - (old.sent if old else 0) >= QUESTION
    return (
        not new.received
        or new.sent_ms < new.received_ms
        or (new.sent_ms == new.received_ms and asked)
    )
