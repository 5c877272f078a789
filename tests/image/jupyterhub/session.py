"""Use the hub as its user does and print as JSON what became of it; argv: base URL, users, cells as
JSON by kernel.

Runs as root on the image's own Python with what the hub brings (requests, tornado). For as long as
this runs, the first user who exists has a password, or, where none exists, the first one exists.
The hub is started where no boot did that, and stopped again.
"""

import asyncio
import contextlib
import json
import pwd
import re
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

BASE, USERS, CELLS = sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3])
ACCOUNTS = {account.pw_name for account in pwd.getpwall()}
USER = next((user for user in USERS if user in ACCOUNTS), USERS[0])
HOME = f"{BASE}/user/{USER}"
PAUSE_S, ASK_AGAIN_S = 0.5, 5.0
RESTARTS = 20
"""Starts of the hub that may fail: it gives its proxy 10 s, which Node.js may need more than once
on a slow machine."""


def run(*argv: str, stdin: str = "") -> str:
    """A command's output; CalledProcessError where it fails."""
    return subprocess.run(
        argv, input=stdin, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@contextlib.contextmanager
def password() -> Iterator[str]:
    """A password that USER has for now; without such an account, one that exists for now. The
    files of accounts are then as they were, and their copies: the disk is held to its bake after
    the checks."""
    made = USER not in ACCOUNTS
    names = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid", "security/opasswd")
    before = {
        path: path.read_bytes() if path.exists() else None
        for name in names
        for path in (Path(f"/etc/{name}"), Path(f"/etc/{name}-"), Path(f"/etc/{name}.old"))
    }
    if made:
        run("useradd", "--create-home", "--shell", "/bin/bash", USER)
    word = secrets.token_urlsafe(16)
    run("chpasswd", stdin=f"{USER}:{word}\n")
    try:
        yield word
    finally:
        if made:
            run("userdel", "--remove", USER)
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)


@contextlib.contextmanager
def hub() -> Iterator[None]:
    """The hub, running and answering; what one that no boot started has kept is removed."""
    booted = (
        subprocess.run(["systemctl", "is-active", "--quiet", "jupyterhub"], check=False).returncode
        == 0
    )
    if not booted:
        run("systemctl", "start", "jupyterhub")
    try:
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{BASE}/hub/health").ok:
                    break
            if int(run("systemctl", "show", "--value", "-p", "NRestarts", "jupyterhub")) > RESTARTS:
                raise SystemExit(f"the hub does not start: {log()}")
            time.sleep(PAUSE_S)
        yield
    finally:
        if not booted:
            run("systemctl", "stop", "jupyterhub")
            run("sh", "-c", "rm -rf /var/lib/jupyterhub/*")


def log() -> str:
    """The hub's last lines."""
    return run("journalctl", "-u", "jupyterhub", "-n", "30", "--no-pager", "-o", "cat")


def xsrf(session: requests.Session, path: str) -> dict[str, str]:
    """The header that a page's own requests carry: its cookie once more."""
    (token,) = [
        cookie.value for cookie in session.cookies if cookie.name == "_xsrf" and cookie.path == path
    ]
    return {"X-XSRFToken": token or ""}


def log_in(word: str) -> requests.Session | None:
    """A session that the hub let in, or nothing."""
    session = requests.Session()
    session.get(f"{BASE}/hub/login").raise_for_status()
    form = {"username": USER, "password": word, "_xsrf": xsrf(session, "/hub/")["X-XSRFToken"]}
    done = session.post(f"{BASE}/hub/login", data=form, allow_redirects=False)
    return session if done.status_code == 302 else None


def spawn(session: requests.Session) -> None:
    """Ask for the user's server and wait until its own page answers, which takes the session
    through OAuth."""
    session.get(f"{BASE}/hub/spawn/{USER}", allow_redirects=False).raise_for_status()
    while not ((page := session.get(f"{HOME}/tree")).ok and page.url.startswith(HOME)):
        if page.status_code == requests.codes.server_error:
            raise SystemExit(f"the notebook server does not start: {log()}")
        time.sleep(PAUSE_S)


async def send(socket: Any, kind: str, **content: object) -> str:
    """Send a request on a kernel's shell channel; returns its id."""
    identity = uuid.uuid4().hex
    header = {
        "msg_id": identity,
        "msg_type": kind,
        "username": USER,
        "session": identity,
        "version": "5.3",
    }
    await socket.write_message(
        json.dumps(
            {
                "header": header,
                "parent_header": {},
                "metadata": {},
                "buffers": [],
                "channel": "shell",
                "content": content,
            }
        )
    )
    return identity


async def answers(socket: Any, identity: str) -> AsyncIterator[dict[str, Any]]:
    """What comes in answer to the request `identity`."""
    while (text := await socket.read_message()) is not None:
        answer = json.loads(text)
        if answer["parent_header"].get("msg_id") == identity:
            yield answer


async def ready(socket: Any) -> None:
    """Return when the kernel answers on both channels: what it publishes before that may be
    lost."""
    heard = set[str]()
    while not {"shell", "iopub"} <= heard:
        identity = await send(socket, "kernel_info_request")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_AGAIN_S):
                async for answer in answers(socket, identity):
                    heard.add(answer["channel"])
                    if {"shell", "iopub"} <= heard:
                        break


async def execute(session: requests.Session, kernel: str, code: str) -> dict[str, str]:
    """What `code` prints in `kernel`, and the error that it ends with, over the kernel's
    websocket."""
    url = f"{HOME}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    cookies = "; ".join(
        f"{cookie.name}={cookie.value}"
        for cookie in session.cookies
        if f"/user/{USER}/".startswith(cookie.path)
    )
    # The server answers when the kernel does: 0 is no limit.
    socket = await websocket_connect(
        HTTPRequest(
            url.replace("http", "ws", 1),
            headers={"Cookie": cookies},
            connect_timeout=0,
            request_timeout=0,
        )
    )
    await ready(socket)
    identity = await send(
        socket,
        "execute_request",
        code=code,
        silent=False,
        store_history=False,
        user_expressions={},
        allow_stdin=False,
        stop_on_error=True,
    )
    said = {"out": "", "error": ""}
    async for answer in answers(socket, identity):
        content = answer["content"]
        if answer["msg_type"] == "stream":
            said["out"] += content["text"]
        elif answer["msg_type"] == "error":
            said["error"] = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))[-2000:]
        elif answer["msg_type"] == "status" and content["execution_state"] == "idle":
            break
    socket.close()
    return said


def cells(session: requests.Session) -> dict[str, dict[str, str]]:
    """Each cell of CELLS run in a new kernel of its kind."""
    headers, found = xsrf(session, f"/user/{USER}/"), dict[str, dict[str, str]]()
    for kind, code in CELLS.items():
        started = session.post(f"{HOME}/api/kernels", json={"name": kind}, headers=headers)
        started.raise_for_status()
        kernel = started.json()["id"]
        found[kind] = asyncio.run(execute(session, kernel, code))
        session.delete(f"{HOME}/api/kernels/{kernel}", headers=headers).raise_for_status()
    return found


def stop(session: requests.Session) -> None:
    """End the user's server; 202: it is on its way."""
    session.get(f"{BASE}/hub/home").raise_for_status()
    headers = {**xsrf(session, "/hub/"), "Referer": f"{BASE}/hub/home"}
    while (
        done := session.delete(f"{BASE}/hub/api/users/{USER}/server", headers=headers)
    ).status_code == 202:
        time.sleep(PAUSE_S)
    done.raise_for_status()


def main() -> None:
    """One login, one server, all cells."""
    with password() as word, hub():
        refused = log_in(word[:-1]) is None
        session = log_in(word)
        if session is None:
            raise SystemExit(f"no login with the right password: {log()}")
        try:
            spawn(session)
            kernels = session.get(f"{HOME}/api/kernelspecs").json()["kernelspecs"]
            sockets = run("ss", "-Hlntp")
            found = cells(session)
        finally:
            stop(session)
        print(
            json.dumps(
                {
                    "refused": refused,
                    "cells": found,
                    "sockets": sockets.splitlines(),
                    "kernels": {
                        name: spec["spec"]["display_name"] for name, spec in kernels.items()
                    },
                }
            )
        )


main()
