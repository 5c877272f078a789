"""SSH to a machine that lives for minutes: its key is new, and its commands share one connection,
because each new one costs 0.5-1 s."""

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

CONNECT_S = 60
"""Seconds to a connection, keys exchanged: on a machine that bakes and tests at once, ten may be
too few. ansible.cfg and Molecule's settings have as many."""
LIMIT = "GOLDEN_BOOT_LIMIT_S"
_SHOWN = 60
"""Characters of a command that a message shows, so that it stays one line."""
_NO_STATUS = 255
"""ssh's own status: the command ended without one, or there was no connection (ssh(1), EXIT
STATUS)."""


class SessionLost(StageFailed):
    """The machine returned no exit status: the command's session or the connection ended."""

    def __init__(self, command: str, output: str, log: Path | None) -> None:
        shown = command if len(command) <= _SHOWN else f"{command[:_SHOWN]}..."
        super().__init__(
            f"the SSH session ended before `{shown}` did", log=log, tail=shell.last_lines(output)
        )


PENALTY_S, LET_IN_S = 6.0, 60.0
"""Seconds of penalty that sshd gives a client for a refused login and the probe before it, and
seconds after which the penalty is forgotten (sshd_config(5), PerSourcePenalties: from 15 on it
refuses the client)."""
_PENALISED = "Not allowed at this time"
"""Text that sshd sends a penalised client instead of its banner."""


def boot_limit_s() -> float:
    """Return GOLDEN_BOOT_LIMIT_S, or 600 seconds (a boot takes 25-60 under emulation on two idle
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
    """Create a private key at `path`, with its public key beside it, and return `path`."""
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path


def write_config(folder: Path, *, host: str, port: int, user: str, key: Path) -> Path:
    """Write `folder`/ssh_config and return its path."""
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
                f"ConnectTimeout {CONNECT_S}",
                # So that commands end if their machine died.
                "ServerAliveInterval 30",
                "ServerAliveCountMax 10",
                # ssh first binds a name 17 characters longer, and a socket's path has at most 108.
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
    """Return whether sshd answers."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2) as link:
        # A forwarder accepts connections before there is a machine: only sshd's banner counts.
        return link.recv(4) == b"SSH-"
    return False


def login(config: Path, deadline: float) -> str | None:
    """Log in once, until `deadline` (monotonic seconds). Return None for success, else ssh's
    message."""
    limit = min(30.0, max(1.0, deadline - time.monotonic()))
    try:
        shell.Command(["ssh", "-F", str(config), HOST, "true"]).output(timeout_s=limit)
    except shell.CommandFailed as failure:
        return failure.tail or failure.message  # at this log level ssh can fail without a word
    except subprocess.TimeoutExpired:
        return f"no answer in {limit:.0f} s"
    return None


def run(config: Path, *command: str, timeout_s: float = 120.0, log: Path | None = None) -> str:
    """Run `command` as the default user and return its output. Raises CommandFailed if it fails,
    SessionLost if no exit status came back. ssh's own log is `ssh.log` beside `config`."""
    ssh_log, shown = config.with_name("ssh.log"), " ".join(command)
    try:
        return shell.Command(
            ["ssh", "-F", str(config), "-E", str(ssh_log), "-o", "LogLevel=DEBUG1", HOST, *command]
        ).output(timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        raise StageFailed(f"`{shown}` took longer than {timeout_s:.0f} s", log=log) from None
    except shell.CommandFailed as failure:
        if failure.status != _NO_STATUS:
            raise
        raise SessionLost(
            shown, ssh_log.read_text(encoding="utf-8", errors="replace"), log
        ) from None


def run_again_if_lost(
    config: Path,
    command: str,
    *,
    say: Callable[[str], object],
    log: Path,
    timeout_s: float = 120.0,
) -> str:
    """`run` a command that changes nothing. If its session is lost, write why to `log`, and run it
    once more."""
    try:
        return run(config, command, timeout_s=timeout_s)
    except SessionLost as lost:
        say(f"{lost.message}: asked once more")
        with log.open("a", encoding="utf-8") as sink:
            sink.write(f"{lost.message}\n{lost.tail}\n")
        hang_up(config)
        # sshd forgets a penalty with time: wait until it lets us in.
        if _PENALISED in lost.tail:
            wait_until(
                lambda: login(config, time.monotonic() + LET_IN_S) is None or None, LET_IN_S, 1.0
            )
        return run(config, command, timeout_s=timeout_s, log=log)
