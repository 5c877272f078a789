"""PutSnapshotBlock by the shortest way: a request of http.client, signed with the credentials of botocore's client.

A call of botocore costs about 0.6 ms of processor for each block beside the data itself, most of it under Python's
lock: validation, endpoint rules, events, user agent. That is as much as sending and hashing 512 KiB together, and it is
the same for every block. botocore's signature alone costs 0.15 ms, since it knows any request; `BlockSignature` knows
one, and takes 0.01. bench_upload.py measures both.

The only answers are that EBS confirmed a block, or is busy. Whatever else happens (a refusal, a broken connection, a
proxy, a certificate that is not known here) is left to the client, which knows how to retry and what an error means.
"""

from __future__ import annotations

import http.client
import os
import ssl
import threading
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from goldenami.aws.snapshots.block_signature import BlockSignature

BUSY = frozenset({"RequestThrottledException", "ThrottlingException"})
"""Refusals that ask for patience ("You should always retry requests that receive server (5xx) error responses, and
ThrottlingException and RequestThrottledException client error responses", EBS direct APIs, PutSnapshotBlock)."""
TRIES = 3
"""Connections that may fail before one has worked; then all blocks go by the client."""


class Answer(Enum):
    """What became of a block: EBS has it, EBS is busy, or anything else, which the client has to find out."""

    CONFIRMED = "confirmed"
    BUSY = "busy"
    OTHER = "other"


class PutConnections:
    """Connections to one endpoint, kept open for further blocks; threads share them. `close` them."""

    def __init__(self, url: str, signer: Any, region: str, timeout_s: float) -> None:
        self._parts, self._timeout_s = urlsplit(url), timeout_s
        own_port = ":443" if self._parts.scheme == "https" else ":80"
        self._signature = BlockSignature(self._parts.netloc.removesuffix(own_port), region, signer)
        self._tls = ssl.create_default_context(cafile=_ca_bundle()) if self._parts.scheme == "https" else None
        self._lock, self._idle = threading.Lock(), list[http.client.HTTPConnection]()
        self._failed, self._has_worked, self._closed = 0, False, False

    @classmethod
    def of(cls, ebs: Any) -> PutConnections | None:
        """Those of the client `ebs`; None where it goes by a proxy, or signs in another way."""
        signer = getattr(ebs, "_request_signer", None)  # has the client's credentials and renews them
        url = ebs.meta.endpoint_url
        if signer is None or signer.signature_version != "v4" or ebs.meta.config.proxies or get_environ_proxies(url):
            return None
        return cls(url, signer, ebs.meta.region_name, ebs.meta.config.read_timeout)

    def put(self, snapshot_id: str, index: int, checksum: str, block: bytes) -> Answer:
        """Send the block, whose SHA-256 in Base64 is `checksum`, once."""
        if self._closed or (self._failed >= TRIES and not self._has_worked):
            return Answer.OTHER
        path = f"{self._parts.path.rstrip('/')}/snapshots/{snapshot_id}/blocks/{index}"
        headers = self._signature.headers(path, checksum)
        connection = self._connection()
        try:
            connection.request("PUT", path, body=block, headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._failed += 1
            connection.close()
            return Answer.OTHER
        self._keep(connection)
        self._has_worked = True
        if answer.status == http.client.CREATED and answer.getheader("x-amz-Checksum", checksum) == checksum:
            return Answer.CONFIRMED
        busy = (answer.getheader("x-amzn-ErrorType") or "").partition(":")[0] in BUSY
        return Answer.BUSY if busy else Answer.OTHER

    def close(self) -> None:
        """Close the connections; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        host, port = self._parts.hostname or "", self._parts.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)


def _ca_bundle() -> str:
    """Where botocore finds its certificates: its own variables first. One in a profile is unknown here: the
    connections fail then, and the client sends."""
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or str(get_cert_path(True))
