"""SSH to a machine that lives for minutes: its key is new, and one connection is shared, since each
costs 0.5-1 s."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.wait import wait_until

HOST = "golden"
"""The machine's name in its ssh_config, for `ssh -F FILE golden` and testinfra."""

LIMIT = "GOLDEN_BOOT_LIMIT_S"
_SHOWN = 60
"""Characters of a command in a message, which is to stay one line."""
_NO_STATUS = 255
"""ssh's own: the command ended without a status of its own, or there was no connection (ssh(1),
EXIT STATUS)."""


class SessionLost(StageFailed):
    """The machine gave no exit status of a command: its session or the connection ended."""

    def __init__(self, command: str, said: str, log: Path | None) -> None:
        shown = command if len(command) <= _SHOWN else f"{command[:_SHOWN]}..."
        super().__init__(
            f"the SSH session ended before `{shown}` did", log=log, tail=shell.last_lines(said)
        )


PENALTY_S, LET_IN_S = 6.0, 60.0
"""Seconds that sshd holds a login that it refused, and the probe before it, against who asked; and
within which what it held is forgotten (sshd_config(5), PerSourcePenalties: it lets nobody in from
15 on)."""
_PENALISED = "Not allowed at this time"
"""What such an sshd says in place of its name."""


def boot_limit_s() -> float:
    """GOLDEN_BOOT_LIMIT_S, or 600 seconds (a boot takes 25-60 under emulation on two idle
    cores)."""
    text = os.environ.get(LIMIT) or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadInput(f"{LIMIT} is `{text}`", hint="give seconds, such as 600")
    return seconds


def new_key(path: Path, comment: str) -> Path:
    """A new private key at `path`, its public one beside it."""
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path


def write_config(folder: Path, *, host: str, port: int, user: str, key: Path) -> Path:
    """Write `folder`/ssh_config; returns it."""
    control = folder.resolve() / "ssh"
    shared = [f'ControlPath "{control}"', "ControlMaster auto", "ControlPersist 600"]
    path = folder / "ssh_config"
    path.write_text(
        "\n".join(
            [
                f"Host {HOST}",
                f"HostName {host}",
                f"Port {port}",
                f"User {user}",
                f'IdentityFile "{key.resolve()}"',
                "IdentitiesOnly yes",
                "BatchMode yes",
                "StrictHostKeyChecking no",
                "UserKnownHostsFile /dev/null",
                "LogLevel ERROR",
                "ConnectTimeout 30",
                # A machine that died ends what waits for it.
                "ServerAliveInterval 30",
                "ServerAliveCountMax 10",
                # ssh binds to a name 17 characters longer first, and a socket's path ends at 108.
                *(shared if len(str(control)) < 90 else []),
                "",
            ]
        ),
        encoding="utf-8",
    )
    return path


def hang_up(config: Path) -> None:
    """End the shared connection's background process."""
    shell.output(["ssh", "-F", str(config), "-O", "exit", HOST], check=False)


def answers(host: str, port: int) -> bool:
    """Whether sshd speaks: what passes connections on accepts them before there is a machine."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2) as link:
        return link.recv(4) == b"SSH-"
    return False


def login(config: Path, deadline: float) -> str | None:
    """Log in once, until `deadline` (monotonic seconds); None for success, else what ssh said."""
    limit = min(30.0, max(1.0, deadline - time.monotonic()))
    try:
        shell.Command(["ssh", "-F", str(config), HOST, "true"]).output(timeout_s=limit)
    except shell.CommandFailed as failure:
        return failure.tail or failure.message  # at this log level ssh can fail without a word
    except subprocess.TimeoutExpired:
        return f"no answer in {limit:.0f} s"
    return None


def run(config: Path, *command: str, timeout_s: float = 120.0, log: Path | None = None) -> str:
    """Run `command` as the default user; CommandFailed where it fails, SessionLost where no exit
    status came back. What ssh did is in `ssh.log` beside `config`."""
    said, shown = config.with_name("ssh.log"), " ".join(command)
    try:
        return shell.Command(
            ["ssh", "-F", str(config), "-E", str(said), "-o", "LogLevel=DEBUG1", HOST, *command]
        ).output(timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        raise StageFailed(f"`{shown}` took longer than {timeout_s:.0f} s", log=log) from None
    except shell.CommandFailed as failure:
        if failure.status != _NO_STATUS:
            raise
        raise SessionLost(shown, said.read_text(encoding="utf-8", errors="replace"), log) from None


def look(
    config: Path,
    command: str,
    *,
    say: Callable[[str], object],
    log: Path,
    timeout_s: float = 120.0,
) -> str:
    """`run` what changes nothing: where its session is lost, `log` gets why, and it is asked once
    more."""
    try:
        return run(config, command, timeout_s=timeout_s)
    except SessionLost as lost:
        say(f"{lost.message}: asked once more")
        with log.open("a", encoding="utf-8") as sink:
            sink.write(f"{lost.message}\n{lost.tail}\n")
        hang_up(config)
        if _PENALISED in lost.tail:
            wait_until(
                lambda: login(config, time.monotonic() + LET_IN_S) is None or None, LET_IN_S, 1.0
            )
        return run(config, command, timeout_s=timeout_s, log=log)
