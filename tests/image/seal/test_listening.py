"""What the booted image listens on is what its definition and roles declare, and all of that
listens."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

HEARD = r"""
import json, pathlib, re, subprocess

def said(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

# systemd itself holds the sockets of its units.
sockets = {}
for block in said("systemctl", "show", "--property=Id,Listen", "*.socket").split("\n\n"):
    name = re.search("^Id=(.*)$", block, re.MULTILINE)
    for port, kind in re.findall(r"^Listen=\S*:(\d+) \((\w+)\)$", block, re.MULTILINE):
        sockets["udp" if kind == "Datagram" else "tcp", port] = name[1]

def unit(protocol, port, pid):
    if pid == "1":
        return sockets.get((protocol, port), "systemd")
    try:
        group = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return "a process that has ended"
    names = [name for name in group.split("/") if re.search(r"\.(service|scope)$", name.strip())]
    return names[0].strip() if names else f"the process {pid}"

rows = []
for line in said("ss", "-Hlntup").splitlines():
    protocol, _, _, _, local, *_ = line.split()
    address, _, port = local.rpartition(":")
    pids = sorted(set(re.findall(r"pid=(\d+)", line)))
    for name in sorted({unit(protocol, port, pid) for pid in pids}) or ["kernel"]:
        rows.append({"protocol": protocol, "port": int(port), "unit": name,
                     "address": re.sub(r"[][]|%.*", "", address)})
print(json.dumps({"rows": rows}))
"""
LOOKS, PAUSE_S = 30, 2
"""A service is up before it listens: it is asked again for a minute."""

Row = dict[str, Any]


@pytest.fixture
def heard(run_program: Any, needs_boot: None, settled: str) -> Callable[[], list[Row]]:
    """A function that tells what listens now."""

    def rows() -> list[Row]:
        found: list[Row] = run_program(HEARD)["rows"]
        return found

    return rows


def test_nothing_listens_that_is_not_declared(
    heard: Callable[[], list[Row]], lock: dict[str, Any]
) -> None:
    assert list(undeclared(heard(), lock["golden_listen"])) == []


def test_all_that_the_definition_declares_listens(
    heard: Callable[[], list[Row]], lock: dict[str, Any]
) -> None:
    wanted = [row for row in lock["golden_listen"] if not row["role"]]
    for _ in range(LOOKS):
        rows = heard()
        silent = [row for row in wanted if not any(covers(row, other) for other in rows)]
        if not silent:
            break
        time.sleep(PAUSE_S)
    assert silent == []


def test_ssh_listens(host: Any, needs_boot: None, settled: str) -> None:
    assert host.socket("tcp://22").is_listening


def undeclared(rows: list[Row], declared: list[Row]) -> Iterator[str]:
    """What listens beyond `declared`, each with what to write."""
    for row in rows:
        if any(covers(one, row) for one in declared):
            continue
        near = [
            f"{one['unit']} at {', '.join(one['addresses'])}"
            for one in declared
            if (one["protocol"], one["port"]) == (row["protocol"], row["port"])
        ]
        address = "::" if row["address"] == "*" else row["address"]
        protocol = {} if row["protocol"] == "tcp" else {"protocol": row["protocol"]}
        line = {"port": row["port"], "unit": row["unit"], **protocol, "addresses": [address]}
        yield (
            f"{row['unit']} listens on {row['protocol']} {row['address']}:{row['port']}, declared "
            f"is {' and '.join(near) or 'nobody'}; write `listen: [{json.dumps(line)}]` into the "
            "definition, or make it stop"
        )


def covers(declared: Row, row: Row) -> bool:
    """Whether a row that was heard is one that is declared, at no wider an address."""
    return (
        declared["protocol"] == row["protocol"]
        and declared["port"] in (0, row["port"])
        and _stem(declared["unit"]) == _stem(row["unit"])
        and any(_within(row["address"], address) for address in declared["addresses"])
    )


def _stem(unit: str) -> str:
    """ssh.socket listens for ssh.service."""
    return unit.removesuffix(".socket").removesuffix(".service")


def _within(address: str, declared: str) -> bool:
    if declared == "::" or address == "*":
        return declared == "::"
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return (declared == "0.0.0.0" and found.version == 4) or str(found) == declared
