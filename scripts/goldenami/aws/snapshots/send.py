"""Sends blocks to EBS. A call is repeated as long as the upload as a whole makes progress."""

from __future__ import annotations

import base64
import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

from goldenami.aws import session
from goldenami.aws.calls import wait_while
from goldenami.core.errors import NotVerified, StageFailed, Unreachable
from goldenami.core.wait import growing
from goldenami.model.builds.sparse_disk import BLOCK

T = TypeVar("T")

PATIENCE_S = 420.0
"""Seconds without a successful call after which an upload ends, to be continued later. It survives
an outage of 300 s: one try may hang for another 60 s, and the next may take as long to find the
network again."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""Bounds in seconds of the pause before a block is tried again: a random part of a bound that
doubles ("full jitter", AWS architecture blog, "Exponential backoff and jitter"). If EBS takes 50,
100 or 200 blocks a second of 64 in flight, an upload reaches 91 to 94 % of that. With pauses up to
20 s it was 49 to 56 %, as blocks slept while EBS was free again (measured)."""
SETTLE_S = 120.0
"""Seconds within which some of EBS's servers may not know a new snapshot. The EBS team's advice is
to wait and try again (awslabs/coldsnap issue 43)."""
_PASSING = frozenset(
    {
        "RequestThrottledException",
        "ThrottlingException",
        "ServiceQuotaExceededException",
        "ConcurrentLimitExceededException",
    }
)
"""Error codes after which a call is repeated. For the first two EBS itself asks for that (EBS
direct APIs, PutSnapshotBlock)."""
_LOST = (ConnectionError, HTTPClientError, ResponseParserError, IncompleteReadError)
"""Exceptions of botocore if the network failed: no connection, no answer, or half of one."""


class Patience:
    """Repeats failing calls as long as any of the calls that share it succeeds within PATIENCE_S.
    `what` says in its error what those calls do, such as "described snap-1"."""

    def __init__(self, what: str) -> None:
        self._what, self._succeeded = what, time.monotonic()

    def bears(self, why: Exception) -> bool:
        """Whether a call may be repeated after this error: the network failed, or AWS is busy.
        Raises Unreachable as `check` does."""
        if not (isinstance(why, _LOST) or (isinstance(why, ClientError) and _passes(why))):
            return False
        self.check(why)
        return True

    def check(self, why: Exception) -> None:
        """Raise Unreachable if no call has succeeded for PATIENCE_S."""
        if time.monotonic() - self._succeeded > PATIENCE_S:
            raise Unreachable(
                f"EBS has not {self._what} for {PATIENCE_S:.0f} s: {why}",
                hint="check the network and the account's quotas; run again: it continues",
            )

    def ask(self, call: Callable[[], T], passes: Callable[[Exception], bool] | None = None) -> T:
        """Return what `call` returns, repeating it after errors for which `passes` (by default
        `bears`) is True. It must be safe to repeat."""
        answer = wait_while(call, passes or self.bears, limit_s=math.inf, pauses=_pauses())
        self._succeeded = time.monotonic()
        return answer


class Sender:
    """Sends blocks of one snapshot by the client `ebs`. Many threads share a sender."""

    def __init__(self, ebs: Any, snapshot_id: str) -> None:
        self._ebs, self._id = ebs, snapshot_id
        self._began, self._patience = (
            time.monotonic(),
            Patience(f"confirmed a block of {snapshot_id}"),
        )

    def put(self, index: int, sha256: bytes, block: bytes) -> None:
        """Send the block until EBS confirms it.

        Raises Unreachable if EBS confirms no block for PATIENCE_S, StageFailed if the snapshot is
        gone, NotVerified if the block's hash is not `sha256`.
        """
        checksum = base64.b64encode(sha256).decode()
        self._patience.ask(
            lambda: self._ebs.put_snapshot_block(
                SnapshotId=self._id,
                BlockIndex=index,
                BlockData=block,
                DataLength=BLOCK,
                Checksum=checksum,
                ChecksumAlgorithm="SHA256",
            ),
            lambda error: self._passes(error, index, sha256, block),
        )

    def _passes(self, error: Exception, index: int, sha256: bytes, block: bytes) -> bool:
        if isinstance(error, ClientError) and not _passes(error):
            # A new snapshot may be unknown to some servers for a while.
            if session.code(error) == "ResourceNotFoundException":
                if time.monotonic() - self._began > SETTLE_S:
                    raise _gone(self._id) from error
                self._patience.check(error)
                return True
            # EBS refuses a block whose checksum is wrong: then the disk has changed since its bake.
            if hashlib.sha256(block).digest() != sha256:
                raise NotVerified(
                    f"block {index} of the disk is not the one that its bake listed",
                    hint="the disk was changed: bake it again (FORCE=1), then run again",
                ) from error
            if error.response.get("Reason") == "WRITE_REQUEST_TIMEOUT":
                raise _gone(self._id) from error
        return self._patience.bears(error)


def _passes(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return session.code(error) in _PASSING or status >= 500


def _pauses() -> Iterator[float]:
    for bound in growing(FIRST_PAUSE_S, 2, LONGEST_PAUSE_S):
        yield bound * random.random()  # noqa: S311 - spreads requests, hides nothing


def _gone(snapshot_id: str) -> StageFailed:
    return StageFailed(
        f"EBS no longer takes blocks of {snapshot_id}: deleted, expired or "
        "completed by someone else",
        hint="run again: it begins a new snapshot",
    )
