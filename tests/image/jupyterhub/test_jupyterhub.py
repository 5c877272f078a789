"""The image's notebooks: a user logs in by PAM, gets a server, and a cell has the limits and
devices of a login.

In a container the hub is started for the tests: the bake has enabled it and never let it run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

STATE = "/var/lib/jupyterhub"
SYSTEM = "python3"
"""Name of the kernel of the system's Python, as Debian's ipykernel has it."""
NODE, MAJOR = "/dev/golden-test-gpu", 195
"""A name that nothing else looks for, and the major number of NVIDIA's device nodes (the kernel's
devices.txt)."""
CELL = """
import json, os, resource, sys
def ask(node):
    try:
        os.close(os.open(node, os.O_RDWR))
    except OSError as error:
        return error.strerror
    return "opened"
def versions(*names):
    return {name: __import__(name).__version__ for name in names}
print(json.dumps({
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK),
    "stack": resource.getrlimit(resource.RLIMIT_STACK), "prefix": sys.prefix, "folder": os.getcwd(),
    "user": os.getuid(), "node": ask(NODE), "versions": versions(*MODULES),
    "threads": os.environ.get("OMP_NUM_THREADS"),
}))
"""
RAISED = 4096
"""Open files that the notebook server raises its own soft limit to, where a login has fewer
(min_open_files_limit)."""
LIMITS = {"nofile": "n", "memlock": "l", "stack": "s"}


@pytest.fixture(scope="module")
def environments(lock: dict[str, Any]) -> dict[str, list[str]]:
    """The image's environments below /opt/ml, with the modules of each."""
    found = dict[str, list[str]]()
    for one in lock.get("frameworks_installed", []) if "frameworks" in lock["golden_roles"] else []:
        found.setdefault(one["environment"], []).append(one["module"])
    return found


@pytest.fixture(scope="module")
def base(lock: dict[str, Any]) -> str:
    return f"http://{lock['jupyterhub_bind_address']}:{lock['jupyterhub_port']}"


@pytest.fixture(scope="module")
def used(
    host: Any,
    run_program: Any,
    lock: dict[str, Any],
    base: str,
    environments: dict[str, list[str]],
) -> Any:
    """What a login, a server and a cell in each kernel gave, while there was one more node of a
    GPU."""
    host.check_output(f"mknod -m 666 {NODE} c {MAJOR} 0")
    cells = {
        kind: f"NODE, MODULES = {NODE!r}, {modules!r}\n{CELL}"
        for kind, modules in {SYSTEM: [], **environments}.items()
    }
    program = (Path(__file__).parent / "session.py").read_text()
    try:
        answer = run_program(program, base, ",".join(lock["jupyterhub_users"]), json.dumps(cells))
    finally:
        host.check_output(f"rm -f {NODE}")
    assert {kind: said["error"] for kind, said in answer["cells"].items() if said["error"]} == {}
    answer["cells"] = {kind: json.loads(said["out"]) for kind, said in answer["cells"].items()}
    return answer


def test_hub_starts_with_the_machine_and_never_before(host: Any, booted: bool) -> None:
    hub = host.service("jupyterhub")
    assert hub.is_enabled
    assert hub.is_running == booted


def test_secrets_are_made_by_a_boot_and_for_root(host: Any, booted: bool) -> None:
    """The cookie secret and the database: none is in the image. How old a machine's are, the seal's
    tests ask."""
    found = host.check_output(f"ls -A {STATE}").splitlines()
    if booted:
        assert {"jupyterhub_cookie_secret", "jupyterhub.sqlite"} <= set(found)
    else:
        assert found == []
    assert host.file(STATE).mode == 0o700


def test_unit_hides_no_gpu_and_asks_pam(host: Any) -> None:
    wanted = {
        "DevicePolicy": "auto",
        "PAMName": "jupyterhub",
        "PrivateDevices": "no",
        "PrivateTmp": "no",
    }
    found = host.service("jupyterhub").systemd_properties
    assert {name: found[name] for name in wanted} == wanted


def test_user_logs_in_by_password_alone(used: dict[str, Any]) -> None:
    """The right password opened a session, one that lacks its last character did not."""
    assert used["refused"]


def test_hub_listens_where_the_lock_says_and_on_the_loopback(
    used: dict[str, Any], lock: dict[str, Any]
) -> None:
    """Asked while hub, proxy and a notebook server ran: by the names of their processes."""
    heard = [
        line.split() for line in used["sockets"] if re.search(r'\("(node|python3|jupyterhub)', line)
    ]
    wanted = f"{lock['jupyterhub_bind_address']}:{lock['jupyterhub_port']}"
    addresses = {words[3].replace("[", "").replace("]", "") for words in heard}
    assert wanted in addresses and len(addresses) >= 4, used["sockets"]
    assert [
        address
        for address in addresses
        if address != wanted and not address.startswith(("127.", "::1:"))
    ] == []


def test_every_environment_is_a_kernel(
    used: dict[str, Any], environments: dict[str, list[str]]
) -> None:
    assert set(used["kernels"]) == {SYSTEM, *environments}


def test_cell_runs_in_the_environment_with_its_frameworks(
    used: dict[str, Any],
    environments: dict[str, list[str]],
    lock: dict[str, Any],
) -> None:
    assert used["cells"][SYSTEM]["prefix"] == "/usr"
    for name, modules in environments.items():
        cell = used["cells"][name]
        assert (cell["prefix"], set(cell["versions"])) == (f"/opt/ml/{name}", set(modules)), cell
        assert int(cell["threads"]) >= 1
    versions = {one["module"]: one["version"] for one in lock.get("frameworks_installed", [])}
    shown = {
        name: version
        for cell in used["cells"].values()
        for name, version in cell["versions"].items()
    }
    assert {name: version.partition("+")[0] for name, version in shown.items()} == {
        name: versions[name].partition("+")[0] for name in shown
    }


def test_cell_has_the_limits_of_a_login(
    host: Any, used: dict[str, Any], lock: dict[str, Any]
) -> None:
    """Of a new one, soft and hard, in KiB but for open files: this connection may be older than
    they are."""
    who = next(name for name in [*lock["jupyterhub_users"], "root"] if host.user(name).exists)
    wanted = {
        name: host.check_output(f"su - {who} -c 'ulimit -S{letter}; ulimit -H{letter}'").split()
        for name, letter in LIMITS.items()
    }
    soft, hard = wanted["nofile"]
    if int(soft) < RAISED:
        wanted["nofile"] = [str(min(RAISED, int(hard))), hard]
    for kind, cell in used["cells"].items():
        units = {"nofile": 1, "memlock": 1024, "stack": 1024}
        found = {
            name: [
                "unlimited" if limit == -1 else str(limit // units[name]) for limit in cell[name]
            ]
            for name in LIMITS
        }
        assert found == wanted, kind


def test_cell_runs_as_the_user(used: dict[str, Any]) -> None:
    for cell in used["cells"].values():
        assert cell["user"] != 0


@pytest.mark.usefixtures("needs_boot")
def test_cell_reaches_the_gpu_s_device_node(used: dict[str, Any]) -> None:
    """The node is there and may be opened; without a driver behind it the kernel knows no such
    device."""
    assert {cell["node"] for cell in used["cells"].values()} <= {
        "opened",
        "No such device or address",
    }
