"""Ways to root that somebody may leave where something may differ, and what a launch writes in the
same places."""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

SHELL = "\x7fELF shell"
CLOUD, INSTANCE = "/var/lib/cloud", "/var/lib/cloud/instances/i-0123456789abcdef0"
CONTAINER = "/var/lib/docker/containers/0123"
LINK = "link "
ENGINE = {"usr/sbin/dockerd": "\x7fELF docker", "usr/bin/containerd": "\x7fELF containerd",
          "etc/dpkg/dpkg.cfg.d/golden": "pre-invoke=/usr/local/libexec/golden-refuse-packages\n",
          "var/backups/.keep": "", "var/lib/chrony/.keep": "", "var/cache/apparmor/.keep": "",
          "var/lib/dhcpcd/.keep": "", "etc/netplan/.keep": "", "etc/apt/sources.list.d/.keep": "",
          "etc/default/.keep": "", "var/tmp/.keep": "",
          "var/lib/logrotate/.keep": "", "var/lib/apt/lists/.keep": "", "var/lib/private/.keep": "",
          "etc/network/interfaces.d/.keep": "", "var/cache/apt/archives/.keep": "",
          "etc/udev/rules.d/.keep": "",
          "var/lib/systemd/timers/.keep": ""}
"""Files of an image with an engine, beside those of every small image."""


@dataclass(frozen=True)
class Plant:
    """A file (a link where `text` begins with LINK), and `with_` that lies beside it."""

    path: str
    text: str
    mode: int = 0o644
    uid: int = 0
    beside: tuple[tuple[str, str], ...] = ()


def put(tree: Path, plant: Plant) -> None:
    """Leave it in a mounted tree, below folders as an engine makes them."""
    for path, text in (*plant.beside, (plant.path, plant.text)):
        real = tree / path.lstrip("/")
        folder = real if path.endswith("/") else real.parent
        for above in [*reversed(folder.relative_to(tree).parents), folder.relative_to(tree)]:
            if not (tree / above).exists():
                (tree / above).mkdir(mode=0o710 if above.name in ("docker", "containerd")
                                     else 0o755)
        if path.endswith("/"):
            real.chmod(int(text, 8))
            continue
        real.unlink(missing_ok=True)
        if text.startswith(LINK):
            real.symlink_to(text.removeprefix(LINK))
            continue
        real.write_bytes(text.encode("utf-8", "surrogateescape"))
        if path.startswith("/home/debian"):
            os.chown(real, 1000, 1000)
        real.chmod(plant.mode if path == plant.path else 0o600)


class _Runs:
    """What Python runs when it reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("id > /tmp/root",))


def _pickle(value: object) -> str:
    return pickle.dumps(value, protocol=4).decode("utf-8", "surrogateescape")


def _container(
    restart: str, mounts: object = None, beside: tuple[tuple[str, str], ...] = (),
    **settings: object,
) -> Plant:
    host = json.dumps({"RestartPolicy": {"Name": restart}, **settings})
    return Plant(f"{CONTAINER}/config.v2.json", json.dumps({"MountPoints": mounts or {}}), 0o600,
                 beside=(*beside, (f"{CONTAINER}/hostconfig.json", host)))


SUDO = "/etc/sudoers.d/90-cloud-init-users"
OWN = "debian ALL=(ALL) NOPASSWD:ALL\n"
NETPLAN = "/etc/netplan/50-cloud-init.yaml"
ETH = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n"
SOURCES = "/etc/apt/sources.list.d/debian.sources"
STANZA = ("Types: deb deb-src\nURIs: {}\nSuites: trixie trixie-updates\nComponents: "
          "main\nSigned-By: {}\n")
KEYRING, ARCHIVE = "/usr/share/keyrings/debian-archive-keyring.gpg", "https://ftp.debian.org/debian"
LOCALE, INTERFACES = "/etc/default/locale", "/etc/network/interfaces.d/50-cloud-init"
META = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
VOLUME = "/var/lib/docker/volumes/x/opts.json"
KEY = "ssh-ed25519 AAAAC3Nz other\n"
NAMES = ("DataSourceEc2Local", "cloudinit.sources.DataSourceEc2")


def data_source(**state: object) -> str:
    """The data source of a launch, as cloud-init pickles it, or with other attributes."""
    kind = type(NAMES[0], (), {"__module__": NAMES[1], "__qualname__": NAMES[0]})
    parents = [NAMES[1].rsplit(".", up)[0] for up in (2, 1)]
    module = ModuleType(NAMES[1])
    setattr(module, NAMES[0], kind)
    sys.modules.update({name: ModuleType(name) for name in parents} | {NAMES[1]: module})
    try:
        one = kind()
        one.__dict__.update({"userdata_raw": b"",
                             "metadata": {"instance-id": "i-0123456789abcdef0"}, **state})
        return _pickle(one)
    finally:
        for name in (*parents, NAMES[1]):
            del sys.modules[name]


PLANTS = [
    *(Plant(SUDO, text, 0o440) for text in (
        f"#33 ALL=(ALL) NOPASSWD:ALL\n{OWN}", f"#include /var/tmp/.s\n{OWN}",
        f"@include /var/tmp/.s\n{OWN}", f"# a \\\n{OWN}", OWN.replace("debian", "%users"))),
    Plant(LOCALE, "LD_PRELOAD=/tmp/x.so\n"),
    Plant(LOCALE, "PATH=.\n"),
    Plant(LOCALE, "# \\\nPATH=.\n"),
    Plant(LOCALE, "LANG=/tmp/x\n"),
    Plant("/etc/locale.conf", "PYTHONPATH=x\n"),
    Plant(NETPLAN, f"{ETH}      nameservers: {{addresses: [192.0.2.1]}}\n", 0o600),
    Plant(NETPLAN, f"{ETH}      routes:\n      - to: 0.0.0.0/0\n        via: 192.0.2.1\n", 0o600),
    Plant(NETPLAN, f"{ETH}      gateway4: 192.0.2.1\n", 0o600),
    Plant(NETPLAN, f"{ETH}  tunnels:\n    t: {{mode: gre, local: 192.0.2.1, remote: 192.0.2.2}}\n",
          0o600),
    Plant(NETPLAN, ETH.replace("  version", "  ethernets: {eth0: {nameservers: {addresses: "
                               "[192.0.2.1]}}}\n  version"), 0o600),
    *(Plant(NETPLAN, f"{ETH}      addresses: [{address}]\n", 0o600)
      for address in ("169.254.169.254/32", "10.0.0.5/1", "127.0.0.2/24")),
    Plant(NETPLAN, "network: [\n", 0o600),
    Plant(NETPLAN, "{" * 5000, 0o600),
    Plant(NETPLAN, "network:\n", 0o600),
    Plant(INTERFACES, "auto eth0\niface eth0 inet dhcp\n    up /tmp/x\n"),
    Plant(INTERFACES, "source /tmp/x\n"),
    Plant(SOURCES, STANZA.format("http://192.0.2.1/debian", KEYRING)),
    Plant(SOURCES, STANZA.format("https://ftp.debian.org.example.com/debian", KEYRING)),
    Plant(SOURCES, STANZA.format("https://debian.org@example.com/debian", KEYRING)),
    Plant(SOURCES, STANZA.format("file:///var/tmp/debian", KEYRING)),
    Plant(SOURCES, STANZA.format(ARCHIVE, "/var/tmp/key.gpg")),
    Plant(SOURCES, STANZA.format(ARCHIVE, KEYRING) + "Trusted: yes\n"),
    Plant(SOURCES, STANZA.format(ARCHIVE, KEYRING) + " /tmp/x\n"),
    Plant("/etc/apt/sources.list", "deb [trusted=yes] https://ftp.debian.org/debian trixie main\n"),
    Plant("/etc/apt/sources.list", "deb copy:/var/tmp/debian trixie main\n"),
    Plant(f"{INSTANCE}/obj.pkl", _pickle(_Runs()), 0o400),
    Plant(f"{INSTANCE}/obj.pkl", "not a pickle", 0o400),
    Plant(f"{INSTANCE}/obj.pkl", _pickle(bytearray(b"x")), 0o400),
    Plant(f"{INSTANCE}/obj.pkl", data_source(userdata_raw=b"#cloud-boothook\nid\n"), 0o400),
    Plant(f"{INSTANCE}/obj.pkl", data_source(init_cmd=["sh", "x"]), 0o400),
    Plant(f"{INSTANCE}/obj.pkl", data_source(metadata={"instance-id": "/home/debian"}), 0o400),
    Plant(f"{INSTANCE}/obj.pkl", data_source(lookups={"scripts": "../../../home/debian"}), 0o400),
    Plant(f"{INSTANCE}/scripts/part-001", "#!/bin/sh\nid\n", 0o700),
    Plant(f"{INSTANCE}/scripts/runcmd", "#!/bin/sh\nid\n", 0o700),
    Plant(f"{INSTANCE}/boothooks/part-001", "#!/bin/sh\nid\n", 0o700),
    Plant(f"{INSTANCE}/handlers/part-handler-000.py", "import os\n", 0o600),
    Plant(f"{INSTANCE}/cloud-config.txt", "#cloud-config\nbootcmd: [id]\n", 0o600),
    Plant(f"{INSTANCE}/user-data.txt", "#!/bin/sh\nid\n", 0o600),
    Plant(f"{CLOUD}/handlers/yaml.py", "import os\n"),
    Plant(f"{CLOUD}/scripts/per-boot/x", "#!/bin/sh\n", 0o755),
    Plant(f"{CLOUD}/instance", f"{LINK}/home/debian/instance"),
    Plant(f"{CLOUD}/data/x", "x"),
    Plant(f"{INSTANCE}/manual-clean", ""),
    Plant("/var/lib/docker/x", SHELL, 0o4755, beside=(("/var/lib/docker/", "0755"),)),
    Plant("/var/lib/containerd/x/shell", SHELL, 0o4755,
          beside=(("/var/lib/containerd/", "0711"), ("/var/lib/containerd/x/", "0755"))),
    Plant("/var/lib/docker/swarm/docker-state.json", "{}"),
    Plant("/var/lib/containerd/opt/bin/runc", SHELL, 0o755),
    Plant(META, "x containerd.io/restart.status running x"),
    Plant(VOLUME, '{"MountType":"none","MountOpts":"bind","MountDevice":"/"}'),
    Plant(VOLUME, '{"mount\\u0044evice":"/"}'),
    _container("always", Privileged=True),
    _container("always", privileged=True),
    _container("unless-stopped", Binds=["/:/host"]),
    _container("on-failure", CapAdd=["SYS_ADMIN"]),
    _container("always", ReadonlyPaths=[]),
    _container("always", mounts={"/host": {"Source": "/etc", "Type": "bind"}}),
    _container("always", Binds=["/home/debian/../../etc:/x"]),
    _container("always", PidMode="host"),
    _container("always", Devices=[{"PathOnHost": "/dev/nvme0n1"}]),
    _container("always", Binds=["/home/debian/root:/x"],
               beside=(("/home/debian/root", f"{LINK}/"),)),
    Plant("/opt/cni/bin/bridge", SHELL, 0o755),
    Plant("/var/backups/.ssh/authorized_keys", KEY, 0o600),
    Plant("/var/log/.ssh/authorized_keys", KEY, 0o600),
    Plant("/home/debian/.rhosts", "+ +\n"),
    Plant("/var/cache/apparmor/0123.0/usr.sbin.chronyd", "compiled"),
    Plant("/var/log/syslog", f"{LINK}/etc/cron.d/x"),
    Plant("/var/backups/x", f"{LINK}/etc/shadow"),
    Plant("/var/lib/logrotate/status", "include /tmp/x\n"),
    Plant("/var/lib/private/x/run", SHELL, 0o755),
    Plant("/var/tmp/shell", SHELL, 0o4755),
]
"""Each has to be named."""

WRITTEN = [
    Plant(SUDO,
          "# Created by cloud-init v. 25.1.4 on Sat, 28 Nov 2026 19:33:12 +0000\n\n# User rules "
          "for debian\n"
          f"{OWN}", 0o440),
    Plant(LOCALE, "#  File generated by update-locale\nLANG=C.UTF-8\n"),
    Plant("/etc/locale.conf", 'LANG="de_DE.UTF-8"\nLC_TIME=C\nLANGUAGE=de:en\n'),
    Plant(NETPLAN, 'network:\n  version: 2\n  ethernets:\n    eth0:\n      match:\n'
          '        macaddress: "52:54:00:12:34:56"\n'
          '      dhcp4: true\n      dhcp6: false\n      set-name: "eth0"\n', 0o600),
    Plant(NETPLAN, "network:\n  version: 2\n  ethernets:\n" + "".join(
        f"    ens{number}:\n      dhcp4: true\n      dhcp4-overrides: "
        f"{{route-metric: {number}00}}\n"
        for number in (5, 6))
        + "      addresses: [10.0.1.9/24]\n      routes:\n"
        "      - {to: 0.0.0.0/0, via: 10.0.1.1, table: 101}\n"
        "      - {to: 10.0.1.0/24, table: 101}\n      routing-policy:\n      - {from: 10.0.1.8, "
        "table: 101}\n", 0o600),
    Plant(INTERFACES,
          "# written by cloud-init\nauto lo\niface lo inet loopback\n\n"
          "auto eth0\niface eth0 inet dhcp\n    metric 100\n"),
    Plant(SOURCES, f"## Note\n\n{STANZA.format(ARCHIVE, KEYRING)}\n## Fixes\n"
          f"{STANZA.format('http://us-east-1.ec2.archive.ubuntu.com/ubuntu/', KEYRING)}"),
    Plant("/etc/apt/sources.list", "# x\ndeb https://ftp.debian.org/debian trixie main\n"),
    Plant(f"{INSTANCE}/obj.pkl", data_source(), 0o400),
    Plant(f"{INSTANCE}/user-data.txt", "", 0o600),
    Plant(f"{INSTANCE}/cloud-config.txt", "", 0o600),
    Plant(f"{INSTANCE}/sem/config_ssh", "322: 1795894392.0822663\n"),
    Plant(f"{CLOUD}/instance", f"{LINK}{INSTANCE}"),
    Plant(f"{CLOUD}/data/instance-id", "i-0123456789abcdef0\n"),
    Plant(f"{INSTANCE}/boot-finished", "210.89 - Sat, 28 Nov 2026 19:34:46 +0000 - v. 25.1.4\n"),
    Plant("/var/lib/docker/overlay2/0/diff/usr/bin/sudo", SHELL, 0o4755,
          beside=(("/var/lib/docker/", "0710"),)),
    Plant("/var/lib/docker/overlay2/0/diff/root/.ssh/authorized_keys", KEY, 0o600),
    _container("no", Privileged=True),
    _container("always", Runtime="runc", CapAdd=None),
    _container("always", Binds=["data:/data", "/home/debian/data:/data"]),
    Plant(META, "moby"),
    Plant(VOLUME, '{"MountType":"nfs","MountOpts":"","MountDevice":":/x"}'),
    Plant("/var/log/README", f"{LINK}../../usr/share/doc/systemd/README.logs"),
    Plant("/var/log/chrony/x", "x"),
    Plant("/var/lib/logrotate/status",
          'logrotate state -- version 2\n"/var/log/x" 2026-11-28-20:0:0\n'),
    Plant("/var/lib/apt/lists/x_InRelease", "x"), Plant("/var/cache/apt/pkgcache.bin", "x"),
    Plant("/var/lib/dhcpcd/eth0.lease", "x"), Plant("/home/debian/project/.env", "x"),
    Plant("/var/backups/x", "x"),
]
"""None of them is drift."""
