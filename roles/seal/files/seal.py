"""Remove from a root tree whatever belongs to the bake or to one machine; print each change.

    seal.py --root / --epoch SECONDS [--initramfs]
        seal the running image; its last act removes the access it came by
    seal.py --root TREE --check
        print what a sealed tree should not hold; exit 1 if anything is

Runs on the image's own python3 (3.10 or newer) from standard input, so it leaves no file behind and
imports nothing but the standard library.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REMOVE = {
    "bake": [
        "etc/apt/sources.list.d/golden-bake*",
        "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "usr/sbin/policy-rc.d",
        "etc/apt/preferences.d/golden-bake*",
    ],
    "package caches": [
        "var/lib/apt/lists/*",
        "var/lib/apt/periodic/*",
        "var/lib/apt/daily_lock",
        "var/cache/apt/*.bin",
        "var/cache/apt/archives/*",
        "var/cache/debconf/*-old",
        "var/lib/dpkg/*-old",
        "var/backups/*",
    ],
    "backups": ["etc/*-", "etc/*~", "etc/apt/*~", "etc/.resolv.conf.*"],
    "identity": [
        "etc/hostname",
        "etc/machine-info",
        "var/lib/systemd/random-seed",
        "var/lib/urandom/random-seed",
        "boot/efi/loader/random-seed",
        "var/lib/systemd/credential.secret",
        "etc/nvme/hostnqn",
        "etc/nvme/hostid",
        "etc/iscsi/initiatorname.iscsi",
        "var/lib/libuuid/*",
        "etc/ssl/private/ssl-cert-snakeoil.key",
        "etc/ssl/certs/ssl-cert-snakeoil.pem",
    ],
    "network": [
        "var/lib/dhcp/*",
        "var/lib/dhcpcd/*",
        "var/lib/dhclient/*",
        "var/lib/NetworkManager/*",
        "etc/udev/rules.d/70-*net*",
        "etc/udev/rules.d/75-*net*",
        "etc/netplan/50-cloud-init.yaml",
        "etc/network/interfaces.d/50-cloud-init*",
        "etc/systemd/network/10-cloud-init*",
    ],
    "cloud-init": [
        # What `cloud-init clean --logs --seed -c all` would; it removes machine-id where systemd
        # needs an empty one.
        "var/lib/cloud/*",
        "etc/ssh/sshd_config.d/50-cloud-init.conf",
        "etc/cloud/ds-identify.cfg",
        "etc/cloud/cloud.cfg.d/90-installer-network.cfg",
    ],
    "state": [
        "var/lib/systemd/timers/*",
        "var/lib/systemd/timesync/*",
        "var/lib/systemd/coredump/*",
        "var/lib/chrony/*",
        "var/lib/logrotate/*",
        "var/lib/sudo/*",
        "var/crash/*",
        "var/spool/mail/*",
        "var/mail/*",
        "core",
        "core.[0-9]*",
        "root/core",
        "root/core.[0-9]*",
        "swapfile",
        "swap.img",
        "var/swap*",
    ],
    "container engines": [
        # What a daemon writes when it starts: keys, its identity, networks, logs of containers.
        # Images stay.
        "etc/docker/key.json",
        "var/lib/docker/engine-id",
        "var/lib/docker/containers/*",
        "var/lib/docker/network/*",
        "var/lib/docker/swarm/*",
        "var/lib/docker/tmp/*",
        "var/lib/containerd/tmpmounts/*",
    ],
    "caches": [
        "var/cache/man/*",
        "var/cache/fontconfig/*",
        "var/cache/ldconfig/*",
        "var/cache/apparmor/*",
        "var/cache/dictionaries-common/*",
    ],
    "driver builds": [
        "var/lib/dkms/*/*/build",
        "var/lib/dkms/mok.*",
        "etc/dkms/*.key",
        "var/lib/shim-signed/mok/*",
        "var/lib/dkms/*/*/*/*/log",
    ],
    "credentials": [
        "etc/ssh/authorized_keys*",
        "etc/apt/auth.conf",
        "etc/apt/auth.conf.d/*",
        "etc/docker/config.json",
        "var/lib/kubelet/config.json",
        "var/lib/jupyterhub/*",
    ],
    "temporary": ["tmp/*", "tmp/.[!.]*", "var/tmp/*", "var/tmp/.[!.]*"],
}
"""Shell patterns, below the root, of what is removed, by reason. Folders are removed with their
content."""

HOME_FILES = [
    ".*_history",
    ".lesshst",
    ".viminfo",
    ".vim",
    ".wget-hsts",
    ".rnd",
    ".Xauthority",
    ".sudo_as_admin_successful",
    ".cache",
    ".nv",
    ".ansible",
    ".netrc",
    ".git-credentials",
    ".gitconfig",
    ".docker",
    ".aws",
    ".kube",
    ".pypirc",
    ".config/pip",
    ".config/containers",
    ".pip",
    ".npmrc",
    ".npm",
    ".huggingface",
    ".torch",
    ".triton",
    ".gnupg",
    ".local/share/containers",
    ".local/state",
    "nohup.out",
]
"""Patterns of what is removed below each home: histories, caches (of pip, torch, CUDA's compiler),
credentials, Ansible's leftovers."""

ACCESS = ["etc/ssh/ssh_host_*"]
"""Patterns that are removed last, with every home's .ssh: the connection that runs this program
needs them."""

UNCOMPILED = ["usr/share/netplan"]
"""Folders of Python modules that no package compiles: Python would write .pyc files at their first
run as root."""

HOSTS = (
    "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    "ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
)
ACL = ("system.posix_acl_access", "system.posix_acl_default")
BACKUP = "etc/shadow-"
"""A copy of shadow. cloud-init has `passwd` lock the default user, who is locked already, and
`passwd` makes this copy."""
LOCKED = "!*"
"""A password field that no password's hash equals. Unlike `!` before the old hash it holds no hash;
login by key works still."""
DAY_S = 24 * 60 * 60


class Seal:
    """A pass over the tree at `root`. Without `act` it only reports. `changes` counts the printed
    lines."""

    def __init__(self, root: Path, epoch: int, *, act: bool) -> None:
        self.root, self.epoch, self.act, self.changes = root, epoch, act, 0

    def report(self, reason: str, path: Path, detail: str = "") -> None:
        """Print one change."""
        self.changes += 1
        print(f"{reason}: /{path.relative_to(self.root)}{detail and f' ({detail})'}")

    def remove(self, reason: str, patterns: list[str]) -> None:
        """Remove what matches. A link is removed, never followed."""
        for path in sorted(itertools.chain.from_iterable(map(self.root.glob, patterns))):
            if (
                reason == "package caches"
                and path.name in ("lock", "partial")
                and not list(_files(path))
            ):
                continue  # apt's empty folders belong to a clean system
            if not os.path.lexists(path):
                continue  # was removed with its folder
            if path == self.root / BACKUP:
                continue  # passwords() makes it equal to shadow
            self.report(reason, path)
            if self.act:
                _delete(path)

    def content(self, reason: str, name: str, text: str) -> None:
        """Make the file `name` hold exactly `text`. Its inode keeps owner and mode."""
        path = self.root / name
        if (
            path.is_symlink()
            or not path.exists()
            or path.read_text(encoding="utf-8", errors="replace") != text
        ):
            self.report(reason, path, "empty" if not text else "")
            if self.act:
                if path.is_symlink():
                    path.unlink()
                path.write_text(text, encoding="utf-8")

    def link(self, reason: str, name: str, target: str) -> None:
        """Make `name` a symbolic link to `target`."""
        path = self.root / name
        if not path.is_symlink() or str(path.readlink()) != target:
            self.report(reason, path, target)
            if self.act:
                path.unlink(missing_ok=True)
                path.symlink_to(target)

    def homes(self) -> list[str]:
        """Return every account's home that exists, without its leading slash ("" is the root
        folder)."""
        lines = (self.root / "etc/passwd").read_text(encoding="utf-8").splitlines()
        from_passwd = {line.split(":")[5].strip("/") for line in lines if line.count(":") == 6}
        existing = {str(path.relative_to(self.root)) for path in self.root.glob("home/*")}
        return sorted(
            home for home in from_passwd | existing | {"root"} if (self.root / home).is_dir()
        )

    def logs(self) -> None:
        """Remove every log, also wtmp, btmp and lastlog: systemd-tmpfiles makes those again with
        their modes."""
        # journald moves to /run first: if its file vanished, it would make a new one.
        if self.act and self.root == Path("/"):
            subprocess.run(
                ["journalctl", "--relinquish-var"], check=True, stdout=subprocess.DEVNULL
            )
        for path in sorted(_files(self.root / "var/log")):
            self.report("log", path)
            if self.act:
                path.unlink()
        self.remove("log", ["var/log/journal/*"])
        journal = self.root / "var/log/journal"
        if journal.is_dir():  # its ACL would not survive a tar; systemd-tmpfiles sets it at boot
            for name in sorted(set(os.listxattr(journal)) & set(ACL)):
                self.report("log", journal, "ACL")
                if self.act:
                    os.removexattr(journal, name)

    def identity(self) -> None:
        """Empty the machine-id, and make host names and name servers neutral."""
        machine_id = self.root / "etc/machine-id"
        if os.path.ismount(machine_id) and self.act:
            subprocess.run(["umount", str(machine_id)], check=True)
        # Empty: a missing or `uninitialized` one would make the boot a first boot.
        self.content("identity", "etc/machine-id", "")
        if (self.root / "var/lib/dbus").is_dir():
            self.link("identity", "var/lib/dbus/machine-id", "/etc/machine-id")
        self.content("identity", "etc/hosts", HOSTS)
        if (self.root / "usr/lib/systemd/systemd-resolved").exists():
            self.link("network", "etc/resolv.conf", "../run/systemd/resolve/resolv.conf")
        else:
            self.content("network", "etc/resolv.conf", "")

    def stamps(self) -> None:
        """Write systemd-update-done's stamps, which say that /etc and /var fit this /usr. Without
        them a first boot rebuilds hwdb and ldconfig's cache."""
        text = (
            "# This file was created by systemd-update-done. Its only\n"
            "# purpose is to hold a timestamp of the time this directory\n"
            "# was updated. See man:systemd-update-done.service(8).\n"
            f"TIMESTAMP_NSEC={self.epoch * 10**9}\n"
        )
        for name in ("etc/.updated", "var/.updated"):
            self.content("identity", name, text)

    def passwords(self) -> None:
        """Lock every password. The day of its last change (since 1970) becomes the image's date."""
        for name in ("etc/shadow", "etc/gshadow"):
            path = self.root / name
            before = path.read_text(encoding="utf-8")
            after = "".join(self._locked(name, line) for line in before.splitlines())
            if after != before:
                for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
                    if old != new:
                        self.report("password", path, old.split(":")[0])
                if self.act:
                    path.write_text(after, encoding="utf-8")
        self._shadowed()
        shadow, backup = self.root / "etc/shadow", self.root / BACKUP
        if backup.is_symlink() or _state(backup) != _state(shadow):
            self.report("backups", backup)
            if self.act:
                backup.unlink(missing_ok=True)
                shutil.copy(shadow, backup)
                shutil.chown(backup, shadow.stat().st_uid, shadow.stat().st_gid)

    def _locked(self, name: str, line: str) -> str:
        """Return a line of shadow or gshadow with its password locked."""
        fields = line.split(":")
        # In gshadow an empty password admits only members, so it is as good as locked (gshadow(5)).
        if not re.fullmatch(r"[!*]+", fields[1]) and not (
            name == "etc/gshadow" and fields[1] == ""
        ):
            fields[1] = LOCKED
        if name == "etc/shadow" and self.epoch:
            fields[2] = str(self.epoch // DAY_S)
        return ":".join(fields) + "\n"

    def _shadowed(self) -> None:
        """Remove passwords from passwd itself, which everybody may read; "x" refers to shadow."""
        path = self.root / "etc/passwd"
        lines = [line.split(":") for line in path.read_text(encoding="utf-8").splitlines()]
        unshadowed = [fields for fields in lines if len(fields) == 7 and fields[1] != "x"]
        for fields in unshadowed:
            self.report("password", path, fields[0])
            fields[1] = "x"
        if unshadowed and self.act:
            path.write_text("".join(":".join(fields) + "\n" for fields in lines), encoding="utf-8")

    def bytecode(self) -> None:
        """Compile the Python modules that no package compiles."""
        argv = [
            sys.executable,
            "-I",
            "-B",
            "-m",
            "compileall",
            "-q",
            # By the source's hash: times are clamped later, and would not match.
            "--invalidation-mode",
            "checked-hash",
        ]
        for folder in filter(Path.is_dir, (self.root / name for name in UNCOMPILED)):
            before = {path: path.read_bytes() for path in folder.rglob("*.pyc")}
            # In its own process: which constants a .pyc shares depends on what else is in memory.
            subprocess.run([*argv, str(folder)], check=True)
            for path in sorted(folder.rglob("*.pyc")):
                if before.get(path) != path.read_bytes():
                    self.report("bytecode", path)

    def initramfs(self) -> None:
        """Create every kernel's initramfs, once its inputs are neutral. A change of its bytes is
        reported."""
        for kernel in sorted(self.root.glob("boot/vmlinuz-*")):
            release = kernel.name.partition("-")[2]
            image = kernel.with_name(f"initrd.img-{release}")
            before = image.read_bytes() if image.exists() else b""
            env = {
                "PATH": os.environ["PATH"],
                "SOURCE_DATE_EPOCH": str(self.epoch),
                "LC_ALL": "C.UTF-8",
            }
            argv = ["update-initramfs", "-c", "-k", release]
            process = subprocess.run(argv, env=env, text=True, capture_output=True, check=False)
            if process.returncode or not image.exists():
                raise SystemExit(f"update-initramfs failed for {release}: {process.stderr.strip()}")
            if image.read_bytes() != before:
                self.report("initramfs", image)

    def neutral(self) -> None:
        """Remove and reset everything except the access to the machine."""
        for reason, patterns in REMOVE.items():
            self.remove(reason, patterns)
        for home in self.homes():
            self.remove("home", [f"{home}/{pattern}".lstrip("/") for pattern in HOME_FILES])
        self.identity()
        self.logs()
        self.passwords()
        if self.epoch:
            self.stamps()

    def access(self) -> None:
        """Remove the keys of every account and of the host."""
        # root's own folder stays, empty: systemd would make it again at the first boot.
        folders = [f"{home}/.ssh".lstrip("/") for home in self.homes() if home != "root"]
        self.remove("access", [*folders, "root/.ssh/*", *ACCESS])


def _files(path: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(path):
        yield from (Path(folder) / name for name in names)


def _state(path: Path) -> object:
    status = path.stat() if path.is_file() else None
    return status and (status.st_mode, status.st_uid, status.st_gid, path.read_bytes())


def _delete(path: Path) -> None:
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def main() -> int:
    """Seal or check. The exit status is 1 if a check found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--initramfs", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    seal = Seal(args.root, args.epoch, act=not args.check)
    if not args.check and not args.epoch:
        parser.error("--epoch is needed to seal")
    seal.neutral()
    if not args.check:
        seal.bytecode()
    if args.initramfs and not args.check:
        seal.initramfs()
        seal.neutral()  # once more: update-initramfs leaves a log and temporary files
    seal.access()
    os.sync()
    return 1 if args.check and seal.changes else 0


if __name__ == "__main__":
    sys.exit(main())
