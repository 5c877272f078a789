"""What an instance tells of what no disk shows. It is sent there as text, run by root's python3,
and never installed.

Python 3.10's standard library is all that it uses. It says what is; whether that may be is decided
outside.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

CONTAINERS = "/usr/local/share/golden-containers/images.json"
"""What images of containers there are: the role `containers` writes it."""
MARK = "golden-inside:"
"""Begins the line of the answer, among what a login may print."""
LIMITS = {
    "CPU": "cpu time", "FSIZE": "file size", "DATA": "data size", "STACK": "stack size",
    "CORE": "core file size",
    "RSS": "resident set", "NPROC": "processes", "NOFILE": "open files", "MEMLOCK": "locked memory",
    "AS": "address space", "SIGPENDING": "pending signals", "MSGQUEUE": "msgqueue size",
    "RTPRIO": "realtime priority",
}
"""systemd's names of limits (systemd.exec(5)), and the kernel's in /proc/PID/limits after `Max`."""
_LISTEN = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""States of a socket that hears anybody: TCP_LISTEN and TCP_CLOSE (net/tcp_states.h), udp's without
a peer."""


def settings(text: str) -> dict[str, str]:
    """`key = value` lines of a file of sysctl.d or system.conf.d; a key that begins with `-` may
    fail, or not exist."""
    found = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and key and key[0] not in "#;[":
            found[key.strip().lstrip("-")] = value.strip()
    return found


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _run(*argv: str) -> str:
    """What a program prints; empty where it is missing. One that fails has said what it knows."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stdout
    except OSError:
        return ""


def sysctl_path(key: str) -> str:
    """Where a key of sysctl.d is: either separator may come first, and then the other is part of a
    name."""
    first = re.search(r"[./]", key)
    return f"/proc/sys/{key if first and first[0] == '/' else key.translate(str.maketrans('./', '/.'))}"


def _modules() -> list[dict[str, Any]]:
    rows = (line.split() for line in _read("/proc/modules").splitlines())
    return [{"name": row[0], "users": [name for name in row[3].split(",") if name not in ("", "-")]}
            for row in rows]


def _wanted(named: list[str]) -> list[str]:
    found = _run("find", "/sys/devices", "-name", "modalias", "-exec", "cat", "{}", "+").split("\n")
    aliases = sorted({*found, *named} - {""})
    lines = _run("modprobe", "--all", "--show-depends", "--quiet", *aliases).splitlines()
    return sorted({Path(line.split()[1]).name.split(".")[0].replace("-", "_") for line in lines
                   if line.startswith("insmod ")})


def limits_of(pid: int, names: list[str]) -> dict[str, str]:
    """The hard limits of a process."""
    found = dict(re.findall(r"^Max (.+?) {2,}\S+ +(\S+)", _read(f"/proc/{pid}/limits"), re.M))
    return {name: found[LIMITS[name]] for name in names if LIMITS[name] in found}


def _services(names: list[str]) -> list[dict[str, Any]]:
    keys = ["Id", "MainPID", *(f"Limit{name}" for name in names)]
    said = _run("systemctl", "show", "--type=service", "--state=running",
                f"--property={','.join(keys)}", "*")
    rows = (dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in said.split("\n\n"))
    most = {"NOFILE": _read("/proc/sys/fs/nr_open").strip()}  # the kernel gives nobody more
    return [{"unit": row["Id"], "actual": limits_of(int(row["MainPID"]), names), "limits": {
        name: row.get(f"Limit{name}", "").replace("infinity", most.get(name, "infinity"))
        for name in names}} for row in rows if row.get("MainPID", "0") != "0"]


def _manager(names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    said = _run("systemctl", "show",
                f"--property={','.join(f'DefaultLimit{name}' for name in names)}")
    return {key.removeprefix("DefaultLimit"): value for key, value in settings(said).items()}


def _owners() -> dict[str, int]:
    found = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue  # the process has ended
        if target.startswith("socket:["):
            found[target[8:-1]] = int(link.parts[2])
    return found


def _address(text: str) -> str:
    """An address of /proc/net: 32-bit words of this machine's byte order, in hexadecimal digits."""
    words = (int(text[at:at + 8], 16) for at in range(0, len(text), 8))
    return str(ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def _listeners() -> list[dict[str, Any]]:
    owners, found = _owners(), []
    for protocol, state in _LISTEN.items():
        for line in _read(f"/proc/1/net/{protocol}").splitlines()[1:]:
            words = line.split()
            if words[3] != state:
                continue
            address, _, port = words[1].partition(":")
            pid = owners.get(words[9], 0)  # 0: nobody's, which /proc does not list
            try:
                program = str(Path(f"/proc/{pid}/exe").readlink())
            except OSError:
                program = ""
            # The system's own unit: below it, such as a user's manager, anybody names units as he
            # likes.
            units = re.findall(r"([^/\n]+\.(?:service|scope|socket))", _read(f"/proc/{pid}/cgroup"))
            found.append({"port": f"{protocol[:3]}/{int(port, 16)}", "address": _address(address),
                          "program": program, "unit": units[0] if units else ""})
    return found


def _mounts() -> list[dict[str, str]]:
    """As process 1 sees them (proc(5), mountinfo)."""
    rows = []
    for line in _read("/proc/1/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        rows.append({"point": point, "part": before.split()[3], "device": before.split()[2],
                     "kind": after.split()[0], "source": after.split()[1]})
    return rows


def _containers(declared: str) -> dict[str, str]:
    """By the name of each image of a container what Docker's engine or Podman calls it."""
    try:
        names = [str(image["name"]) for image in json.loads(declared or "[]")]
    except (ValueError, TypeError, KeyError):
        return {}
    ask = ("image", "inspect", "--format", "{{.Id}}")
    found = {name: _run("docker", *ask, name) or _run("podman", *ask, name) for name in names}
    return {name: said.strip().replace("sha256:", "") for name, said in found.items()}


def answer(asked: dict[str, Any]) -> str:
    """The line that answers a question: what is asked for, of which files, and what it has to
    repeat."""
    texts = {path: _read(path) for path in asked["files"]}
    keys = {key for path, text in texts.items() if "/sysctl" in path for key in settings(text)
            if "*" not in key}
    defaults = [key for path, text in texts.items() if "/system.conf" in path
                for key in settings(text)]
    limits = sorted({key[12:] for key in defaults if key.startswith("DefaultLimit")
                     and key[12:] in LIMITS})
    named = [line.strip() for path, text in texts.items() if "/modules" in path
             for line in text.splitlines()
             if line.strip() and line.strip()[0] not in "#;"]
    facts = {
        **{key: asked[key] for key in ("nonce", "manifest_sha256")}, "texts": texts,
        "release": os.uname().release,
        "command_line": _read("/proc/cmdline").strip(), "modules": _modules(),
        "wanted": _wanted(named),
        "sysctl": {key: " ".join(_read(sysctl_path(key)).split()) for key in sorted(keys)},
        "manager": _manager(limits), "services": _services(limits), "listeners": _listeners(),
        "mounts": _mounts(),
        "containers": _containers(texts.get(CONTAINERS, "")),
    }
    return MARK + base64.b64encode(zlib.compress(json.dumps(facts).encode(), 9)).decode()
