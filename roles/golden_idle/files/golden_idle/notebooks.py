"""Jupyter servers, which are asked by their own API for what they last did.

Their users' files have the token. A file is only its user's word: it has to belong to the user
whose process it names, so that nobody's token is sent to somebody else's port.
"""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden_idle import holds

LIMIT_S, MOST_BYTES = 2, 1 << 20
_FILES = tuple(
    f"{home}/.local/share/jupyter/runtime/{kind}-{{}}.json"
    for home in ("root", "home/*")
    for kind in ("jpserver", "nbserver")
)


@dataclass(frozen=True)
class Server:
    """What a server last did, as text that is compared for change, and how many cells run."""

    did: str
    running: int


UNKNOWN = Server("unknown", 0)


def ask(root: Path, processes: list[int]) -> dict[str, Server]:
    """Return the servers among these processes, by process id."""
    servers = dict[str, Server]()
    for pid, name in itertools.product(processes, _FILES):
        folder = root / "proc" / str(pid)
        try:
            for file in root.glob(name.format(pid)):
                text, owner = holds.read_plain(file)
                if owner == folder.stat().st_uid:
                    servers[str(pid)] = _server(json.loads(text), folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            servers.setdefault(
                str(pid), UNKNOWN
            )  # the server is broken, or the file system of its user's home
    return servers


def _token(environment: Path) -> str:
    """Return the token that JupyterHub gave to a user's server, or ""."""
    words = environment.read_bytes().split(b"\0")
    name = b"JUPYTERHUB_API_TOKEN="
    return next((word.removeprefix(name).decode() for word in words if word.startswith(name)), "")


def _server(values: Mapping[str, Any], process: Path) -> Server:
    token = values["token"] or _token(process / "environ")
    kernels = _get(values, token, "api/kernels")
    folder = Path(values.get("root_dir") or values["notebook_dir"])
    activity = [str(row["last_activity"]) for row in kernels]
    for row in _get(values, token, "api/sessions"):
        with suppress(OSError):
            activity.append(str((folder / row["path"]).stat().st_mtime_ns))
    running = sum(row["execution_state"] == "busy" for row in kernels)
    return Server(" ".join(sorted(activity)), running)


def _get(values: Mapping[str, Any], token: str, path: str) -> Any:
    scheme = "https" if values.get("secure") else "http"
    address = f"{scheme}://127.0.0.1:{int(values['port'])}{values['base_url']}{path}"
    # Without no_track_activity the question itself would count as activity.
    request = urllib.request.Request(  # noqa: S310 - http, on this machine
        f"{address}?no_track_activity=1", headers={"Authorization": f"token {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LIMIT_S) as answer:
        return json.loads(answer.read(MOST_BYTES))


def activity(
    earlier: Mapping[str, Server], later: Mapping[str, Server], asking: int
) -> Iterator[str]:
    """Yield what notebooks did between two looks. So many cells, which seem to run, only ask for
    input."""
    if sum(server.running for server in later.values()) > asking:
        yield "Jupyter runs a cell"
    for pid, server in later.items():
        if pid in earlier and earlier[pid].did != server.did:
            yield f"a notebook of Jupyter ({pid}) was edited or asked something"
