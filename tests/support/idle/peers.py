"""What comes to a recorded machine from outside: `python -m support.idle.peers NAME [ARGUMENT...]`.

`browser` asks a Jupyter server what JupyterLab's page asks by itself, and does what somebody does with the page.
"""

from __future__ import annotations

import http.client
import http.server
import importlib
import json
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from support.idle import editor

TOKEN = {"Authorization": "token secret", "Content-Type": "application/json"}
BROWSER = {
    **TOKEN,
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "*/*",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "identity",
    "Referer": "http://10.99.0.1:8888/lab/tree/work.ipynb",
    "Connection": "keep-alive",
    "Cookie": f"_xsrf={'x' * 130}; username-10-99-0-1-8888={'y' * 200}",
    "X-XSRFToken": "x" * 130,
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
}
PAGE = ("api/kernels", "api/sessions", "api/terminals", "api/contents?content=1")
"""What an open page asks each ten seconds."""
NOTEBOOK = {
    "path": "work.ipynb",
    "name": "work.ipynb",
    "type": "notebook",
    "kernel": {"name": "python3"},
}
CELLS = {
    "runs": "sum(x * x for x in range(100_000))",
    "once": "x = 1",
    "idle": "x = 1",
    "sleeps": "import time; time.sleep(3000)",
    "asks": "import urllib.request\nwhile True: urllib.request.urlopen('http://10.99.0.2:9000').read()",
}


class _Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    delay_s = 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay_s)
        body = bytes(1 << 27) if self.path == "/big" else b"an answer"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def api(delay: str) -> None:
    """An API whose answers take so many seconds."""
    _Api.delay_s = float(delay)
    http.server.ThreadingHTTPServer(("0.0.0.0", 9000), _Api).serve_forever()


def ask_often(address: str) -> None:
    """A user of a served model, each three seconds."""
    while True:
        _get(address)
        time.sleep(3)


def health(address: str) -> None:
    """A load balancer, each ten seconds."""
    while True:
        _get(f"{address}/health")
        time.sleep(10)


class Page:
    """A browser's connection to a server: one, which stays open, with a browser's headers."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address.partition("//")[2], timeout=60)

    def ask(self, path: str, data: Any = None, method: str = "GET") -> Any:
        """The answer; the first has to wait for a server that starts."""
        body = json.dumps(data).encode() if data is not None else None
        for _ in range(120):
            try:
                self._connection.request(method, f"/{path}", body, BROWSER)
                return json.loads(self._connection.getresponse().read())
            except (OSError, http.client.HTTPException):
                self._connection.close()
                time.sleep(1)
        raise AssertionError(f"{path} is not answered")


def _get(address: str) -> None:
    with suppress(OSError), urllib.request.urlopen(address, timeout=60) as answer:
        answer.read()


def browser(mode: str, address: str) -> None:
    """A page of JupyterLab, and its user."""
    # Of the environment that has JupyterLab.
    websocket: Any = importlib.import_module("websocket")

    page, sockets = Page(address), address.replace("http", "ws")
    headers = ["Authorization: token secret"]

    def hear(path: str) -> Any:
        connection = websocket.create_connection(f"{sockets}/{path}", header=headers)
        threading.Thread(target=_hear, args=[connection], daemon=True).start()
        return connection

    _save(page)
    kernel = page.ask("api/sessions", NOTEBOOK, "POST")["kernel"]["id"]
    channels = hear(f"api/kernels/{kernel}/channels?session_id=page")
    if mode in CELLS:
        _run(channels, CELLS[mode])
    typed: Any = None
    if mode == "terminal":
        typed = hear(f"terminals/websocket/{page.ask('api/terminals', {}, 'POST')['name']}")
    for turn in range(2 if mode == "once" else 10**6):
        for path in PAGE:
            page.ask(path)
        if mode == "runs" and turn % 3 == 0:
            _run(channels, CELLS[mode])
        if mode == "edits" and turn % 12 == 0:
            _save(page)
        for letter in "ls\r" if typed and turn % 2 == 0 else "":
            typed.send(json.dumps(["stdin", letter]))
            time.sleep(0.3)
        time.sleep(10)


def _save(page: Page) -> None:
    cell: dict[str, Any] = {
        "cell_type": "code",
        "source": f"# {time.time()}",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    content = {"cells": [cell] * 20, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    page.ask(
        "api/contents/work.ipynb", {"type": "notebook", "format": "json", "content": content}, "PUT"
    )


def _hear(connection: Any) -> None:
    while True:
        connection.recv()


def _run(channels: Any, code: str) -> None:
    channels.send(
        json.dumps(
            {
                "channel": "shell",
                "parent_header": {},
                "metadata": {},
                "buffers": [],
                "header": {
                    "msg_id": uuid.uuid4().hex,
                    "username": "",
                    "session": "page",
                    "msg_type": "execute_request",
                    "version": "5.3",
                    "date": "",
                },
                "content": {
                    "code": code,
                    "silent": False,
                    "store_history": True,
                    "user_expressions": {},
                    "allow_stdin": False,
                    "stop_on_error": True,
                },
            }
        )
    )


PEERS: dict[str, Callable[..., None]] = {
    "api": api,
    "ask_often": ask_often,
    "health": health,
    "browser": browser,
    "page": editor.page,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](*sys.argv[2:])
