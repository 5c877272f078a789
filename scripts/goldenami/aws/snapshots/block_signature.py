"""Signature Version 4 of PutSnapshotBlock, the one request that is sent thousands of times.

botocore's signer costs as much processor as a quarter of a block's way (see raw_put.py). A test holds that both give
the same signature. Source: "Create a signed AWS API request",
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from functools import lru_cache
from typing import Any

from goldenami.core import clock
from goldenami.model.sparse_disk import BLOCK

SERVICE, ALGORITHM = "ebs", "AWS4-HMAC-SHA256"


@lru_cache(maxsize=4)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    """The key of one day, region and service."""
    key = f"AWS4{secret}".encode()
    for word in (day, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key


class BlockSignature:
    """Signs PUTs of blocks to `host` (with its port, where it is not the scheme's) in `region`.

    `signer` is that of a client of botocore: it has the credentials, and renews them.
    """

    def __init__(self, host: str, region: str, signer: Any) -> None:
        self._host, self._region, self._signer = host, region, signer

    def headers(self, path: str, checksum: str, at: datetime.datetime | None = None) -> dict[str, str]:
        """Headers of the request, signed `at` a moment in UTC (default: now).

        The body is not signed but its SHA-256 in Base64, `checksum`, is, as the API has it (PutSnapshotBlock: "The
        checksum that you provide is part of the Signature Version 4 signing process"): no second SHA-256.
        """
        credentials = self._signer.get_auth_instance(SERVICE, self._region, "v4").credentials
        stamp = (at or clock.now()).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self._region}/{SERVICE}/aws4_request"
        headers = {"x-amz-checksum": checksum, "x-amz-checksum-algorithm": "SHA256",
                   "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-data-length": str(BLOCK), "x-amz-date": stamp}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        signed = ";".join(("host", *headers))  # by name, as the signature wants them
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = f"PUT\n{path}\n\nhost:{self._host}\n{lines}\n{signed}\nUNSIGNED-PAYLOAD"
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(_signing_key(credentials.secret_key, stamp[:8], self._region), text.encode(), "sha256")
        headers["authorization"] = (f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
                                    f"SignedHeaders={signed}, Signature={signature.hex()}")
        return headers
