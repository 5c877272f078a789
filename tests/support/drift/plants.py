"""What somebody may leave on an instance: what is drift, what is listed as data that gives rights
or starts by itself, and what a healthy machine writes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

SHELL = "\x7fELF shell"
CLOUD, INSTANCE = "/var/lib/cloud", "/var/lib/cloud/instances/i-0123456789abcdef0"
CONTAINERS = "/var/lib/docker/containers"
LINK = "link "
SUDO, NETPLAN = "/etc/sudoers.d/90-cloud-init-users", "/etc/netplan/50-cloud-init.yaml"
SOURCES = "/etc/apt/sources.list.d/debian.sources"
LOCALE = "/etc/default/locale"
CLEANS = "usr/local/libexec/golden-fresh-cloud-init"
ENGINE = {
    "usr/sbin/dockerd": "\x7fELF docker",
    "usr/bin/containerd": "\x7fELF containerd",
    "etc/dpkg/dpkg.cfg.d/golden": "pre-invoke=/usr/local/libexec/golden-refuse-packages\n",
    CLEANS: "#!/bin/sh\n",
    SUDO[1:]: "debian ALL=(ALL) NOPASSWD:ALL\n",
    SOURCES[1:]: "Types: deb\n",
    LOCALE[1:]: "LANG=C.UTF-8\n",
    **{
        f"{name}/.keep": ""
        for name in (
            "etc/netplan",
            "etc/network/interfaces.d",
            "etc/cni/net.d",
            "opt/cni/bin",
            "var/backups",
            "var/cache/apt/archives",
            "var/lib/apt/lists",
            "var/lib/chrony",
            "var/lib/containerd",
            "var/lib/dhcpcd",
            "var/lib/docker",
            "var/lib/logrotate",
            "var/lib/private",
            "var/lib/systemd/linger",
            "var/lib/systemd/timers",
            "var/spool/cron/crontabs",
            "var/tmp",
            "mnt",
            "srv",
            "scratch",
        )
    },
}
"""Files of an image with an engine, beside those of every small image."""


@dataclass(frozen=True)
class Plant:
    """A file, or a link where `text` begins with LINK."""

    path: str
    text: str = "x"
    mode: int = 0o644


def put(tree: Path, plant: Plant) -> None:
    """Leave it in a mounted tree; what is in the home of debian is debian's."""
    real = tree / plant.path[1:]
    real.parent.mkdir(parents=True, exist_ok=True)
    real.unlink(missing_ok=True)
    if plant.text.startswith(LINK):
        real.symlink_to(plant.text.removeprefix(LINK))
        return
    real.write_text(plant.text, encoding="utf-8")
    if plant.path.startswith("/home/debian"):
        os.chown(real, 1000, 1000)
    real.chmod(plant.mode)


def container(name: str, restart: str) -> Plant:
    host = json.dumps(
        {
            "Binds": ["/:/host"],
            "Privileged": True,
            "RestartPolicy": {"Name": restart, "MaximumRetryCount": 0},
        },
        separators=(",", ":"),
    )
    return Plant(f"{CONTAINERS}/{name}/hostconfig.json", host, 0o600)


DRIFT = [
    Plant(SUDO, "%users ALL=(ALL) NOPASSWD:ALL\n", 0o440),
    Plant("/etc/sudoers.d/x", "ALL ALL=(ALL) NOPASSWD:ALL\n", 0o440),
    Plant("/etc/sudoers.d/debian", f"{LINK}/home/debian/sudoers"),
    Plant(LOCALE, "LD_PRELOAD=/tmp/x.so\n"),
    Plant("/etc/locale.conf", "PYTHONPATH=x\n"),
    Plant("/etc/environment", "LD_PRELOAD=/tmp/x.so\n"),
    Plant("/etc/netplan/60-mine.yaml", "network: {}\n", 0o600),
    Plant(NETPLAN, f"{LINK}/home/debian/netplan"),
    Plant("/etc/network/interfaces.d/50-cloud-init", "up /tmp/x\n"),
    Plant("/etc/systemd/network/x.network", "[Match]\n"),
    Plant(SOURCES, "URIs: http://192.0.2.1/debian\nTrusted: yes\n"),
    Plant("/etc/apt/sources.list", "deb [trusted=yes] https://192.0.2.1/debian trixie main\n"),
    Plant("/etc/apt/apt.conf.d/99x", 'APT::Update::Pre-Invoke {"id";};\n'),
    Plant("/etc/cloud/cloud.cfg.d/99x.cfg", "bootcmd: [id]\n"),
    Plant("/etc/cron.d/x", "* * * * * root id\n"),
    Plant("/etc/cron.daily/x", "#!/bin/sh\n", 0o755),
    Plant("/var/spool/cron/crontabs/root", "* * * * * id\n", 0o600),
    Plant("/etc/ld.so.conf.d/x.conf", "/tmp\n"),
    Plant("/etc/profile.d/x.sh", "id\n"),
    Plant("/etc/udev/rules.d/90-x.rules", 'RUN+="/tmp/x"\n'),
    Plant("/etc/modprobe.d/x.conf", "install loop /tmp/x\n"),
    Plant("/etc/pam.d/x", "auth sufficient pam_permit.so\n"),
    Plant("/etc/docker/daemon.json", "{}"),
    Plant("/etc/cni/net.d/10-x.conflist", "{}"),
    Plant("/etc/ssh/sshd_config.d/50-cloud-init.conf", "PermitRootLogin yes\n", 0o600),
    Plant("/etc/ssh/ssh_known_hosts", "x"),
    Plant("/etc/systemd/system/multi-user.target.wants/x.service", f"{LINK}/home/debian/x"),
    Plant("/etc/systemd/system/sshd.service.d/x.conf", "[Service]\nExecStartPre=/tmp/x\n"),
    Plant("/opt/cni/bin/bridge", SHELL, 0o755),
    Plant("/opt/containerd/bin/runc", SHELL, 0o755),
    Plant("/usr/local/bin/ls", SHELL, 0o755),
    Plant("/usr/local/sbin/sshd", SHELL, 0o755),
    Plant("/usr/local/lib/python3.13/dist-packages/sitecustomize.py", "import os\n"),
    Plant("/usr/lib/x86_64-linux-gnu/libx.so", SHELL),
    Plant("/var/lib/private/x/run", SHELL, 0o755),
    Plant("/var/cache/ldconfig/aux-cache", "compiled"),
    Plant("/var/lib/dbus/machine-id", "x"),
    Plant("/var/lib/polkit-1/localauthority/x.pkla", "x"),
    Plant("/var/lib/systemd/catalog/database", "x"),
    Plant("/var/lib/dpkg/info/x.postinst", "#!/bin/sh\n", 0o755),
    Plant("/root/.bashrc", "id\n"),
    Plant("/root/.bash_profile", "id\n"),
    Plant("/root/.profile", "id\n"),
    Plant("/root/.ssh/authorized_keys2", "ssh-ed25519 AAAAC3Nz other\n", 0o600),
    Plant("/root/.ssh/rc", "id\n", 0o600),
    Plant("/root/.config/systemd/user/x.service", "[Service]\n"),
    Plant("/root/.docker/cli-plugins/docker-build", SHELL, 0o755),
    Plant("/root/.docker/config.json", '{"credsStore": "x"}'),
    Plant("/root/.local/lib/python3.13/site-packages/usercustomize.py", "import os\n"),
    Plant("/home/admin", "a file, no home"),
    Plant("/home/ubuntu/.ssh/authorized_keys", f"{LINK}/home/debian/keys"),
    Plant("/boot/grub/custom.cfg", "set x=1\n"),
    Plant("/boot/vmlinuz-6.2", "kernel"),
    Plant("/lib-x", "x"),
]
"""Each is drift, and nothing else is."""

LISTED = [
    container("always", "always"),
    container("unless", "unless-stopped"),
    container("failure", "on-failure"),
    Plant(
        "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
        "x containerd.io/restart.status running x",
        0o600,
    ),
    Plant("/var/lib/docker/swarm/docker-state.json", "{}", 0o600),
    Plant("/var/lib/docker/plugins/0/config.json", "{}", 0o600),
    Plant("/var/spool/cron/crontabs/debian", "* * * * * id\n", 0o600),
    Plant("/var/lib/systemd/linger/debian", ""),
    Plant("/home/debian/.ssh/authorized_keys2", "ssh-ed25519 AAAAC3Nz other\n", 0o600),
    Plant("/home/debian/.ssh/rc", "id\n", 0o600),
    Plant("/var/backups/.ssh/authorized_keys", "ssh-ed25519 AAAAC3Nz other\n", 0o600),
]
"""Data that starts by itself or lets somebody in: named, no drift."""

RIGHTS = [
    Plant("/var/lib/docker/overlay2/0/diff/usr/bin/sudo", SHELL, 0o4755),
    Plant("/var/lib/containerd/x/shell", SHELL, 0o2755),
    Plant("/var/tmp/shell", SHELL, 0o4755),
    Plant("/home/debian/shell", SHELL, 0o4755),
    Plant("/srv/shell", SHELL, 0o6755),
]
"""Data with rights: named, no drift."""

WRITTEN = [
    Plant(NETPLAN, "network: {version: 2}\n", 0o600),
    Plant(f"{INSTANCE}/obj.pkl", "pickle", 0o400),
    Plant(f"{INSTANCE}/user-data.txt", "", 0o600),
    Plant(f"{INSTANCE}/scripts/part-001", "#!/bin/sh\n", 0o700),
    Plant(f"{INSTANCE}/sem/config_ssh", "322: 1795894392.0822663\n"),
    Plant(f"{CLOUD}/instance", f"{LINK}{INSTANCE}"),
    Plant(f"{INSTANCE}/boot-finished", "210.89 - Sat, 28 Nov 2026 19:34:46 +0000 - v. 25.1.4\n"),
    container("no", "no"),
    container("none", ""),
    Plant("/var/lib/docker/volumes/x/opts.json", "{}", 0o600),
    Plant("/var/lib/containerd/io.containerd.metadata.v1.bolt/db", "moby", 0o600),
    Plant("/var/log/README", f"{LINK}../../usr/share/doc/systemd/README.logs"),
    Plant("/var/log/chrony/x"),
    Plant("/var/lib/logrotate/status"),
    Plant("/var/lib/apt/lists/x_InRelease"),
    Plant("/var/cache/apt/pkgcache.bin"),
    Plant("/var/lib/dhcpcd/eth0.lease"),
    Plant("/home/debian/project/.env"),
    Plant("/home/debian/.config/systemd/user/x.service"),
    Plant("/home/debian/lib/x.pyc"),
    Plant("/var/backups/x"),
    Plant("/var/lib/systemd/timers/stamp-x.timer", ""),
    Plant("/root/.lesshst"),
    Plant("/root/.docker/buildx/instances/x"),
    Plant("/mnt/data/x"),
    Plant("/scratch/x"),
    Plant("/data/x"),
    Plant("/var/crash/x"),
]
"""What a healthy machine writes."""
