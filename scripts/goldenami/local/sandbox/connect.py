"""Splice standard input and output to a TCP connection: `python connect.py HOST PORT`, an ssh
ProxyCommand.

`nsenter` runs it in a container's network namespace. It is plain Python because nc and socat may be
missing.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys


def main() -> None:
    """Copy bytes both ways until either side closes."""
    link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    # The 10 s are for connecting alone: an SSH session may be silent for longer.
    link.settimeout(None)
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(link, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = os.read(0, 65536) if key.fd == 0 else link.recv(65536)
                if not data:
                    return
                if key.fd == 0:
                    link.sendall(data)
                else:
                    _write(data)


def _write(data: bytes) -> None:
    while data:
        # A pipe may take less than all of it.
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
