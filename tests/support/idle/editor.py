"""A page of VS Code's server: its connection as the page makes it, and somebody who saves a file.

Frames and values are those of `ipc.net.ts` and `ipc.ts` of the server's sources.
"""

from __future__ import annotations

import importlib
import json
import struct
import threading
import time
import urllib.request
from typing import Any

CONTROL, REGULAR, KEEP_ALIVE = 2, 1, 9
KEEP_ALIVE_S, SAVE_S = 5, 40
PATH = {"$mid": 1, "scheme": "vscode-remote", "authority": "remote", "path": "/root/train.py"}


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while True:
        value, low = value >> 7, value & 127
        found.append(low | (128 if value else 0))
        if not value:
            return bytes(found)


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x01" + _number(len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\x03" + _number(len(value)) + value
    if isinstance(value, list):
        return b"\x04" + _number(len(value)) + b"".join(map(_value, value))
    if isinstance(value, int):
        return b"\x06" + _number(value)
    text = json.dumps(value).encode()
    return b"\x05" + _number(len(text)) + text


class Page:
    """A management connection, which a page has for as long as it is open."""

    def __init__(self, address: str, commit: str) -> None:
        websocket: Any = importlib.import_module("websocket")
        self._socket = websocket.create_connection(
            f"{address.replace('http', 'ws')}/?reconnectionToken={time.time():.0f}-page"
            "&reconnection=false&skipWebSocketFrames=false"
        )
        self._sent = self._got = 0
        self._send(CONTROL, json.dumps({"type": "auth", "auth": "0" * 20, "data": "x"}).encode())
        asked = json.loads(self._receive(CONTROL))
        self._send(
            CONTROL,
            json.dumps(
                {
                    "type": "connectionType",
                    "commit": commit,
                    "signedData": asked["data"],
                    "desiredConnectionType": 1,
                }
            ).encode(),
        )
        said = self._receive(CONTROL)
        assert json.loads(said)["type"] == "ok", said
        threading.Thread(target=self._hear, daemon=True).start()
        self._regular(_value({"remoteAuthority": "remote", "clientId": "renderer"}))

    def _send(self, kind: int, data: bytes = b"", number: int = 0) -> None:
        self._socket.send_binary(struct.pack(">BIII", kind, number, self._got, len(data)) + data)

    def _regular(self, data: bytes) -> None:
        self._sent += 1
        self._send(REGULAR, data, self._sent)

    def _receive(self, wanted: int) -> bytes:
        while True:
            data: bytes = self._socket.recv()
            kind, number, _, length = struct.unpack_from(">BIII", data)
            self._got = max(self._got, number)
            if kind == wanted:
                return data[13 : 13 + length]

    def _hear(self) -> None:
        while True:
            self._receive(REGULAR)

    def keep_alive(self) -> None:
        """What the page sends by itself."""
        self._send(KEEP_ALIVE)

    def save(self, text: bytes) -> None:
        """Write a file."""
        how = {"create": True, "overwrite": True, "unlock": False, "atomic": False}
        self._regular(
            _value([100, self._sent, "remoteFilesystem", "writeFile"]) + _value([PATH, text, how])
        )


def page(mode: str, address: str, commit: str) -> None:
    """An open page; with mode `saves`, somebody who edits: a page saves a second after each change."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(address) as answer:
                answer.read()
            break
        except OSError:
            time.sleep(1)
    opened = Page(address, commit)
    for turn in range(10**6):
        opened.keep_alive()
        if mode == "saves" and turn % (SAVE_S // KEEP_ALIVE_S) == 1:
            opened.save(f"# {turn}\n".encode() * 1000)
        time.sleep(KEEP_ALIVE_S)
