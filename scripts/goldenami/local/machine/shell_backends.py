"""Replacements for testinfra's connection backends `ssh`, `chroot`, `docker`, `podman` and `local`,
each with one shell that stays open.

`install` puts them in the place of testinfra's own, so its Ansible backend, which Molecule uses,
takes them too.
"""

from __future__ import annotations

import copy
import functools
import shlex
from typing import Any

from testinfra import backend as backends
from testinfra.backend import base, chroot, docker, local, podman, ssh
from testinfra.host import Host

from goldenami.local.machine.machine_shell import OPENED, MachineShell

_WHO_LOGGED_IN = ""
"""Key of the shell for the user who logged in; the other shells are kept by their user's name."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Root's PATH as Debian's login sets it (login.defs(5), ENV_SUPATH)."""
_opened: list[MachineShell] = []


class _AsUser(str):
    """A command line that testinfra wrapped to run as another user; that user's shell runs `inner`.
    It is a str because testinfra passes it on as one."""

    __slots__ = ("inner", "user")

    user: str
    inner: str


class Result(base.CommandResult):
    """The result of a command; its repr is what a failed check shows."""

    def __repr__(self) -> str:
        output = (self.stderr or self.stdout).strip()
        return f"`{self.command.decode(errors='replace')}`: {output or 'it said nothing'}"


class ShellBackend(base.BaseBackend):
    """A backend that keeps a shell for the user who logged in, and one for each user of `sudo`."""

    def way(self, opening: str) -> str:
        """Return the local command line that runs `opening` on the machine and passes its standard
        input on."""
        raise NotImplementedError

    @functools.cached_property
    def _shells(self) -> dict[str, MachineShell]:
        return {}

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        marked = _AsUser(super().get_sudo_command(command, sudo_user))
        marked.inner, marked.user = command, sudo_user or "root"
        return marked

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        text = self.get_command(command, *args)
        user, inner = _WHO_LOGGED_IN, text
        if isinstance(text, _AsUser):
            user, inner = text.user, text.inner
        if user not in self._shells:
            enter = f"exec sudo -n -u {shlex.quote(user)} {OPENED}" if user else f"exec {OPENED}"
            argv = ["sh", "-c", f"exec {self.way(enter)}"]
            self._shells[user] = MachineShell(argv, self.get_pytest_id())
            _opened.append(self._shells[user])
        result = self._shells[user].run(self.encode(inner))
        return Result(self, result.status, self.encode(inner), result.out, result.err)


class SshBackend(ShellBackend, ssh.SshBackend):
    """Commands over SSH."""

    def way(self, opening: str) -> str:
        words, arguments = self._build_ssh_command(opening)
        return self.quote(" ".join(words), *arguments)


class ChrootBackend(ShellBackend, chroot.ChrootBackend):
    """Commands in a root tree."""

    def way(self, opening: str) -> str:
        # A login's environment, not this process's: a user's Python in the tree fails if
        # PYTHONPATH leads where only root may look.
        return shlex.join(
            [
                "env",
                "--ignore-environment",
                f"PATH={_PATH}",
                "HOME=/root",
                "LC_ALL=C.UTF-8",
                "TMPDIR=/tmp",
                "chroot",
                self.name,
                "/bin/sh",
                "-c",
                opening,
            ]
        )


class _Container(ShellBackend):
    name: str
    user: str | None

    def way(self, opening: str) -> str:
        user = ["--user", self.user] if self.user else []
        return shlex.join(
            [self.NAME, "exec", "--interactive", *user, self.name, "/bin/sh", "-c", opening]
        )


class DockerBackend(_Container, docker.DockerBackend):
    """Commands in a Docker container."""


class PodmanBackend(_Container, podman.PodmanBackend):
    """Commands in a Podman container."""


class LocalBackend(ShellBackend, local.LocalBackend):
    """Commands on this machine."""

    def way(self, opening: str) -> str:
        return shlex.join(["/bin/sh", "-c", opening])


def install() -> None:
    """Let testinfra use these backends for its connections of the same names."""
    for backend in (SshBackend, ChrootBackend, DockerBackend, PodmanBackend, LocalBackend):
        backends.BACKENDS[backend.NAME] = f"{__name__}.{backend.__name__}"


def close() -> None:
    """End all shells; a later command opens a new one."""
    for shell in _opened:
        shell.close()


@functools.cache
def as_root(host: Host) -> Host:
    """Return the same machine with root's rights: by sudo if another user logged in."""
    if host.check_output("id -u") == "0":
        return host
    backend = copy.copy(host.backend)
    backend.sudo = True
    root = Host(backend)
    backend.set_host(root)
    return root
