"""Which paths root executes, parses as its configuration or unpickles, derived from what an image's
own files say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

KEPT = (r"/(usr/lib|etc)/systemd/system/.+\.(service|socket|timer|mount)|/etc/(pam\.d|cron\.d|apt/apt\.conf\.d)/[^/]+"
        r"|/etc/(sudoers|crontab|passwd|ssh/sshd_config|default/cron)|/etc/(sudoers|ssh/sshd_config|logrotate)\.d/[^/]+"
        r"|/usr/lib/python3/dist-packages/cloudinit/(helpers|stages)\.py|/etc/cloud/cloud\.cfg(\.d/.+)?"
        r"|/(usr/lib|etc)/tmpfiles\.d/.+|/etc/logrotate\.conf|/etc/security/pam_env\.conf")
"""The files that are asked."""
_OF_UNITS = re.compile(r"^(?:Exec\w+|EnvironmentFile|RequiresMountsFor|LoadCredential\w*)=(.+)$",
                       re.M)
_STATE = re.compile(r"^(State|Cache|Logs)Directory=(.+)$", re.M)
_STATE_ROOT = {"State": "/var/lib", "Cache": "/var/cache", "Logs": "/var/log"}
_FOLDERS_OF_CODE = {"handlers", "scripts", "boothooks", "vendor_scripts", "seed"}
_BY_ROOT = ("/etc/ld.so.preload", "/etc/environment", "/etc/cron.d/x",
            "/var/spool/cron/crontabs/root",
            "/var/spool/cron/crontabs/debian", "/etc/udev/rules.d/x.rules",
            "/etc/systemd/system/x.service",
            "/var/lib/systemd/linger/debian", "/etc/modprobe.d/x.conf", "/etc/apt/preferences.d/x",
            "/etc/apt/trusted.gpg.d/x.gpg", "/etc/apt/sources.list.d/x.sources", "/root/.bashrc",
            "/root/.profile",
            "/etc/profile.d/x.sh", "/etc/ld.so.conf.d/x.conf", "/usr/local/bin/x",
            "/etc/sudoers.d/x",
            "/etc/netplan/x.yaml", "/etc/network/interfaces.d/x",
            "/usr/lib/python3/dist-packages/x.pth")
"""What no file names: it is built into the program that reads it."""


def reads(texts: Mapping[str, str]) -> dict[str, str]:
    """Why root reads a path, by path; a folder that is read stands as one file in it."""
    found = dict.fromkeys(_BY_ROOT, "built in")
    for path, text in texts.items():
        found |= dict.fromkeys(_of_file(path, text), path)
    return {path.replace("//", "/"): why for path, why in found.items()}


def _of_file(path: str, text: str) -> Iterator[str]:
    if "/systemd/system/" in path:
        for line in _OF_UNITS.findall(text):
            for word in re.findall(r"(?:^|[\s=-])(/[^\s;\"']+)", line):
                yield from (word, f"{word}/x")
        for kind, names in _STATE.findall(text):
            yield from (f"{_STATE_ROOT[kind]}/{name}/.ssh/authorized_keys"
                        for name in names.split())
    elif path.startswith("/etc/pam.d/"):
        yield from re.findall(r"(?:envfile|conffile|file)=(/\S+)", text)
        if re.search(r"user_readenv=1", text):
            yield "/home/debian/.pam_environment"
    elif path == "/etc/passwd":
        homes = [line.split(":")[5] for line in text.splitlines()]
        yield from (f"{home}/.ssh/{name}" for home in homes
                    for name in ("authorized_keys", "rc", "environment")
                    if not home.startswith("/home"))
    elif path.startswith("/etc/sudoers"):
        yield from (f"{word}/x" for word in re.findall(r"^[@#]include(?:dir)? (\S+)", text, re.M))
    elif path.endswith("cloudinit/helpers.py"):
        yield from _of_cloud_init(text)
    elif "cron" in path:
        yield from re.findall(r"(?:^|\s)(/[\w./-]+)", text)
    elif path.startswith("/etc/apt"):
        yield from re.findall(r"\"(?:\S+=)?(/[\w./-]+)", text)
    elif path.startswith("/etc/ssh"):
        yield from (f"{word}/x" for word in re.findall(r"^\s*Include (\S+)/\*", text, re.M))
    elif path.startswith("/etc/logrotate"):
        yield from (f"{word}/x" for word in re.findall(r"^\s*include (\S+)", text, re.M))


def _of_cloud_init(text: str) -> Iterator[str]:
    """`Paths.lookups`: files and folders of an instance, and of all instances."""
    for key, name in re.findall(r'^\s+"([\w.]+)": "([\w./-]+)",', text, re.M):
        for top in ("/var/lib/cloud", "/var/lib/cloud/instances/i-0123456789abcdef0"):
            if key in _FOLDERS_OF_CODE:
                yield from (f"{top}/{name}/x", f"{top}/{name}/x/x")
            elif key in ("obj_pkl",) or "config" in key or key.endswith("data_raw"):
                yield f"{top}/{name}"
    yield from ("/var/lib/cloud/seed/nocloud/user-data", "/var/lib/cloud/scripts/per-boot/x",
                "/var/lib/cloud/scripts/per-once/x", "/var/lib/cloud/scripts/per-instance/x")
