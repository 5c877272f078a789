"""The few words of QEMU's machine protocol that a boot needs, over an inherited socket.

A socket pair has no path: nothing to collide, to clean up, or to exceed 108 characters.
"""

from __future__ import annotations

import json
import socket
from typing import Any

REPLY_LIMIT_S = 10.0
"""An answer that takes longer means that QEMU's main loop hangs (seen: milliseconds, also under
load)."""


class Monitor:
    """The controlling side of one QEMU."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.settimeout(REPLY_LIMIT_S)
        self._lines = self._ours.makefile("rb")
        self._greeted = False

    def argv(self) -> list[str]:
        """QEMU's options; the file descriptor of `theirs` has to be passed on."""
        return ["-chardev", f"socket,id=qmp,fd={self.theirs.fileno()}", "-mon",
                "chardev=qmp,mode=control"]

    def command(self, name: str) -> Any:
        """Execute `name` and return its result; ConnectionError when QEMU is gone, hangs or
        refuses."""
        try:
            if not self._greeted:
                self._read("QMP")
                self._send("qmp_capabilities")
                self._greeted = True
            return self._send(name)
        except OSError as error:
            raise ConnectionError(f"QEMU did not answer {name}") from error

    def _send(self, name: str) -> Any:
        self._ours.sendall(json.dumps({"execute": name}).encode() + b"\n")
        return self._read("return")

    def _read(self, key: str) -> Any:
        while line := self._lines.readline():
            message = json.loads(line)
            if "error" in message:
                raise ConnectionError(f"QEMU refused: {message['error'].get('desc')}")
            if key in message:
                return message[key]
        raise ConnectionError("QEMU closed its monitor")

    def close(self) -> None:
        """Give up the socket pair."""
        self._lines.close()
        self._ours.close()
        self.theirs.close()
