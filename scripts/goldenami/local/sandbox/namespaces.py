"""Namespaces that end with the process that started them, and the removal of cgroups that a kill
leaves behind.

When the process that started one `unshare` of net, mount and pid namespaces ends, in whatever way,
the kernel ends the pid namespace and drops its mounts and links. The kernel keeps empty cgroups:
the next run finds them by name and removes them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from goldenami.core import shell
from goldenami.core.process import ProcessId, is_left
from goldenami.core.wait import wait_until

CGROUP_PREFIX = "goldenami-"
HOSTNAME = "golden"
"""The hostname that every build machine sees: mmdebstrap and maintainer scripts copy it into
trees."""
RUN = "/run/goldenami"
"""A folder in memory, private to each run. Its path is short enough for sockets (108 bytes)."""
REAP_LIMIT_S = 5.0
"""Seconds that a killed cgroup may take to empty (seen: 0.1-1.2 s on 2 cores)."""


def unshare_argv(argv: list[str]) -> list[str]:
    """Return `argv` wrapped so that it runs in namespaces of its own and is killed with its
    parent."""
    return [
        shell.require("setpriv", "util-linux"),
        "--pdeathsig",
        "KILL",
        "--",
        shell.require("unshare", "util-linux"),
        "--net",
        "--uts",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--mount-proc",
        "--",
        *argv,
    ]


def prepare() -> None:
    """Prepare new namespaces: bring loopback up, and mount private /run folders for `ip netns` and
    nspawn over the host's."""
    os.umask(0o022)  # a stricter one would hide files from the image's users
    socket.sethostname(HOSTNAME)
    shell.output(["ip", "link", "set", "lo", "up"])
    shell.output(["mount", "--make-rprivate", "/"])
    for folder in ("/run/netns", "/run/systemd/nspawn", RUN):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shell.output(["mount", "-t", "tmpfs", "tmpfs", folder])


def _cgroup_roots() -> list[Path]:
    """Return the hierarchies in which systemd-nspawn keeps a container: cgroup v2, and v1's
    `name=systemd`."""
    roots: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            roots.append(Path(left.split(" ")[4]))
    return roots


@contextlib.contextmanager
def own_cgroup(purpose: str = "") -> Iterator[str]:
    """Create a cgroup for this process in each hierarchy, named by its ProcessId, and yield its
    name.

    Two containers in one cgroup would treat each other's processes as their own. If two run at
    once, `purpose` begins the name of one.
    """
    reap()
    name = f"{CGROUP_PREFIX}{purpose}{ProcessId.current()}"
    for root in _cgroup_roots():
        (root / name).mkdir(exist_ok=True)
    try:
        yield name
    finally:
        for root in _cgroup_roots():
            _remove(root / name)


def joined_argv(cgroup: str, argv: list[str]) -> list[str]:
    """Return `unshare_argv` in `cgroup`: this module, run as a program, joins the cgroup and
    becomes `argv`."""
    return unshare_argv(shell.python_argv("goldenami.local.sandbox.namespaces", cgroup, *argv))


def main() -> None:
    """Join the cgroup that argv names, prepare the namespaces, become the command."""
    cgroup, *argv = sys.argv[1:]
    for root in _cgroup_roots():
        # 0 stands for the process that writes.
        (root / cgroup / "cgroup.procs").write_text("0", encoding="utf-8")
    prepare()
    os.execvp(argv[0], argv)  # noqa: S606 - becoming the command is what this is for


def _folders(cgroup: Path) -> list[Path]:
    """Return `cgroup` and the cgroups below it, parents first."""
    # os.walk skips what vanishes meanwhile; Path.rglob raises.
    return [Path(folder) for folder, _, _ in os.walk(cgroup)]


def _members(cgroup: Path) -> set[int]:
    pids: set[int] = set()
    for folder in _folders(cgroup):
        with contextlib.suppress(OSError):
            pids.update(
                int(line) for line in (folder / "cgroup.procs").read_text(encoding="utf-8").split()
            )
    # 0 stands for a process of another pid namespace; to kill 0 would end this process's own group.
    return pids - {0}


def _remove(cgroup: Path) -> None:
    def emptied() -> bool | None:
        pids = _members(cgroup)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        return not pids or None

    wait_until(emptied, REAP_LIMIT_S, 0.05)
    _rmdir(cgroup)


def _rmdir(cgroup: Path) -> None:
    for folder in reversed(_folders(cgroup)):
        with contextlib.suppress(OSError):
            folder.rmdir()


def reap() -> list[str]:
    """Remove the cgroups of runs whose process is gone, and return their names. A leftover cgroup
    of another namespace goes only if it is empty."""
    names: list[str] = []
    for root in _cgroup_roots():
        for cgroup in root.glob(f"{CGROUP_PREFIX}*"):
            owner = ProcessId.parse(cgroup.name)
            if owner and owner.has_ended:
                _remove(cgroup)
                names.append(cgroup.name)
            elif is_left(cgroup):
                # Processes of another pid namespace cannot be seen from here: rmdir fails if there
                # is one.
                _rmdir(cgroup)
    return names


def run(
    argv: list[str],
    *,
    log: Path,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run `argv` in its own namespaces and cgroup; each line of output goes to `log` and to
    `on_line`."""
    with own_cgroup() as cgroup:
        command = shell.Command(
            joined_argv(cgroup, argv), env={**shell.python_env(), **(env or {})}
        )
        # unshare ignores TERM; its KILL takes the whole pid namespace along.
        command.stream(log=log, on_line=on_line, grace_s=0)


@contextlib.contextmanager
def running(argv: list[str], *, log: Path, on_line: Callable[[str], None]) -> Iterator[None]:
    """Like `run`, in a second cgroup, while the block runs. An exception in the block ends it; its
    own failure is raised after the block."""
    with (
        own_cgroup("beside-") as cgroup,
        shell.Command(joined_argv(cgroup, argv), env=shell.python_env()).streaming(
            log=log, on_line=on_line
        ),
    ):
        yield


def start(argv: list[str], *, cgroup: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `argv` in its own namespaces within an existing `cgroup`; the caller stops it."""
    return shell.start(joined_argv(cgroup, argv), log=log, env=shell.python_env())


if __name__ == "__main__":
    main()
