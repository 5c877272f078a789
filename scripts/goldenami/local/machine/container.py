"""A build container: systemd as PID 1 on an overlay, reachable by SSH and by nothing else.

It runs in the namespaces of `sandbox`. A veth pair without a route or a gateway joins the
container's network namespace to ours, so a connection to an outside address fails with ENETUNREACH
at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.core.wait import wait_until
from goldenami.local.machine import ssh

ADDRESS = "10.213.0.2"
GATEWAY = "10.213.0.1"
"""Addresses of a /30 that exists only in the build's own network namespace: any private prefix
would do."""
LINK = "inner0"
"""The container's end of the link. It is not called host0, for which systemd-networkd brings a
configuration of its own."""
BOOT_LIMIT_S = 60.0
"""Seconds until sshd must answer (seen: 1-6 s); after that the container's console is shown."""
COMMAND_LIMIT_S = 3600.0
"""Seconds that a command in the container may take: as many as ansible.cfg gives a task."""
REPO_MOUNT = "/run/golden/repo"
UNITS = "/run/systemd/system"
RUNS = (
    "ssh.service",
    "systemd-.service",
    "dbus.service",
    "user@.service",
    "user-runtime-dir@.service",
)
"""Units that run in a bake: sshd, and what a login or an Ansible module needs of systemd.
`systemd-.service` stands for every unit whose name begins with `systemd-` (systemd.unit(5))."""
BOOTS = ("systemd.unit=sysinit.target", "systemd.wants=ssh.service", "systemd.wants=dbus.socket")
"""Arguments of init in a bake's container: no timer, socket or path of the image's own starts."""


@dataclass(frozen=True)
class Container:
    """A running container that answers at ADDRESS."""

    name: str
    tree: Path
    ssh_key: Path
    process: subprocess.Popen[bytes]
    console: Path

    def ssh(self, *command: str, timeout_s: float = COMMAND_LIMIT_S) -> str:
        """Run a command as root and return its output. Raises StageFailed after `timeout_s`
        seconds."""
        argv = [
            "ssh",
            "-F",
            "/dev/null",
            "-q",
            "-i",
            str(self.ssh_key),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            f"ConnectTimeout={ssh.CONNECT_S}",
        ]
        try:
            call = shell.Command([*argv, f"root@{ADDRESS}", *command])
            return call.output(timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            raise StageFailed(
                f"`{' '.join(command)}` took longer than {timeout_s:.0f} s",
                log=self.console,
                hint="see the container's console",
            ) from None


def check_host() -> None:
    """Refuse a host on which containers come up broken."""
    if os.geteuid() != 0:
        raise HostNotReady(
            "root is needed for namespaces and containers", hint="run as root, or with sudo"
        )
    # systemd-nspawn copies this mode: if users cannot write /dev/null, every container is degraded.
    mode = stat.S_IMODE(Path("/dev/null").stat().st_mode)
    if mode != 0o666:
        raise HostNotReady(
            f"/dev/null has mode {mode:04o}, not 0666", hint="run `chmod 0666 /dev/null`"
        )
    shell.require("systemd-nspawn", "systemd-container")


@contextlib.contextmanager
def overlay(lowers: Sequence[Path], scratch: Path) -> Iterator[Path]:
    """Mount `lowers` (top first) below a fresh upper folder in `scratch`, and yield the merged
    tree."""
    upper, work, merged = scratch / "upper", scratch / "work", scratch / "merged"
    for folder in (upper, work, merged):
        folder.mkdir(parents=True)
    lower = ":".join(str(path) for path in lowers)
    shell.output(
        [
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            f"lowerdir={lower},upperdir={upper},workdir={work},"
            # volatile: dpkg syncs some thousand times. Nothing here need survive a crash: what a
            # bake keeps is checked by its digest.
            "redirect_dir=on,index=on,metacopy=off,volatile",
            str(merged),
        ],
        # mount(2) takes 4 KiB of lowerdir, the newer system calls only 255 bytes.
        env={"LIBMOUNT_FORCE_MOUNT2": "always"},
    )
    try:
        yield merged
    finally:
        shell.output(["umount", "--lazy", str(merged)], check=False)


def forget_overlay(scratch: Path) -> None:
    """Remove what an unmounted overlay leaves in `scratch`."""
    # Fails if it is still mounted: a removal through the mount would destroy the tree.
    (scratch / "merged").rmdir()
    for name in ("upper", "work"):
        shutil.rmtree(scratch / name, ignore_errors=True)


def _network(netns: str) -> None:
    shell.output(["ip", "netns", "add", netns])
    shell.output(
        ["ip", "link", "add", "golden0", "type", "veth", "peer", "name", LINK, "netns", netns]
    )
    shell.output(["ip", "address", "add", f"{GATEWAY}/30", "dev", "golden0"])
    shell.output(["ip", "link", "set", "golden0", "up"])
    shell.output(["ip", "-n", netns, "address", "add", f"{ADDRESS}/30", "dev", LINK])
    for link in (LINK, "lo"):
        shell.output(["ip", "-n", netns, "link", "set", link, "up"])


def _identity(tree: Path, scratch: Path) -> Path:
    """Give root a key for the login, and the tree a hostname before its first boot. Return the
    private key."""
    key = scratch / "ssh_key"
    key.unlink(missing_ok=True)  # ssh-keygen asks before it replaces one
    ssh.new_key(key, "golden-bake")
    folder = tree / "root" / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(key.with_suffix(".pub"), folder / "authorized_keys")
    (folder / "authorized_keys").chmod(0o600)
    # postfix and the snakeoil certificate copy the hostname.
    (tree / "etc/hostname").write_text("golden\n", encoding="utf-8")
    (tree / "etc/machine-id").write_text("", encoding="utf-8")
    return key


def use_repository(tree: Path, view: str = ".") -> None:
    """Make `view` of the mounted repository the only package source; `seal` removes it."""
    (tree / "etc/apt/sources.list.d/golden-bake.sources").write_text(
        f"Types: deb\nURIs: file:{REPO_MOUNT}\nSuites: {view}/\nTrusted: yes\n", encoding="utf-8"
    )


def _no_initramfs(tree: Path, scratch: Path) -> list[str]:
    """Return nspawn's option that keeps packages from creating an initramfs, or [] without
    initramfs-tools."""
    target = "etc/initramfs-tools/update-initramfs.conf"
    if not (tree / target).exists():
        return []
    # An initramfs takes 5 s each time, and only that of the seal is kept. The file is mounted over
    # the tree's, so that no layer holds it.
    setting = scratch / "update-initramfs.conf"
    setting.write_text("update_initramfs=no\n", encoding="utf-8")
    os.utime(setting, (0, 0))
    return [f"--bind-ro={setting}:/{target}"]


def _wait_for_ssh(container: Container) -> None:
    def is_up() -> bool | None:
        if container.process.poll() is not None:
            return False
        return ssh.answers(ADDRESS, 22) or None

    if wait_until(is_up, BOOT_LIMIT_S, 0.1):
        return
    raise StageFailed(
        f"the container {container.name} did not answer on SSH",
        tail=shell.end_of(container.console),
        log=container.console,
        hint="see the console's last lines; a base tree without openssh-server looks like this",
    )


@dataclass(frozen=True)
class BootableContainer:
    """A container of `tree` before it runs. `scratch` gets the key for the login, `repo` is mounted
    as its package source, and `console` is the log of its output."""

    name: str
    tree: Path
    scratch: Path
    repo: Path
    console: Path

    def at_rest(self) -> list[str]:
        """Return options for `running` that start no service of the image, so that none writes into
        a layer. Starting a service succeeds and does nothing, as in a chroot."""
        units = self.scratch / "units"
        shutil.rmtree(units, ignore_errors=True)  # an earlier boot wrote its own there
        for name in ("service", *RUNS):
            folder = units / f"{name}.d"
            folder.mkdir(parents=True, exist_ok=True)
            # golden.conf of one unit takes the place of golden.conf of all services.
            waits = f"[Unit]\nConditionPathExists={UNITS}/started-by-a-bake\n"
            text = "" if name in RUNS else waits
            (folder / "golden.conf").write_text(text, encoding="utf-8")
        return [f"--bind={units}:{UNITS}", *BOOTS]

    @contextlib.contextmanager
    def running(self, extra: Sequence[str] = ()) -> Iterator[Container]:
        """Boot it, and yield the container once sshd answers. `extra` are nspawn's options,
        followed by those of its init."""
        check_host()
        key = _identity(self.tree, self.scratch)
        _network(self.name)
        process = shell.start(
            [
                "systemd-nspawn",
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                f"--directory={self.tree}",
                f"--machine={self.name}",
                "--hostname=golden",
                "--resolv-conf=off",
                "--timezone=off",
                "--link-journal=no",
                f"--network-namespace-path=/run/netns/{self.name}",
                f"--bind-ro={self.repo}:{REPO_MOUNT}",
                "--console=pipe",
                *_no_initramfs(self.tree, self.scratch),
                *extra,
                # For the container's init: cloud-init must not take the container for an instance.
                "cloud-init=disabled",
            ],
            log=self.console,
        )
        container = Container(self.name, self.tree, key, process, self.console)
        try:
            _wait_for_ssh(container)
            yield container
        finally:
            # A shutdown would write (random seed, journal, wtmp) into a tree that was sealed.
            _kill(process)
            shell.output(["ip", "link", "delete", "golden0"], check=False)
            shell.output(["ip", "netns", "delete", self.name], check=False)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill PID 1 of the container first: its children die with its pid namespace."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with contextlib.suppress(OSError):
        for pid in children.read_text(encoding="utf-8").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
