"""One block to EBS, as often as it takes while the upload as a whole gets on."""

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
from goldenami.aws.calls import wait_for
from goldenami.core.errors import NotVerified, StageFailed, Unreachable
from goldenami.core.wait import growing
from goldenami.model.builds.sparse_disk import BLOCK

T = TypeVar("T")

PATIENCE_S = 420.0
"""Seconds in which EBS must answer at least one call; then an upload ends, to be continued. An
outage of 300 s is outlived: one try may hang for another 60 s, and the next finds the network again
within as many."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""Pauses before a block is tried again: a random part of a bound that doubles ("full jitter", AWS
architecture blog, "Exponential backoff and jitter"). Where EBS takes 50, 100 or 200 blocks a second
of 64 in flight, an upload reaches 91 to 94 % of that; with pauses to 20 s it was 49 to 56 %
(measured: blocks slept while EBS was free again)."""
SETTLE_S = 120.0
"""Seconds in which a new snapshot may be unknown to some of EBS's servers: its team's advice is to
wait and try again (awslabs/coldsnap issue 43)."""
_PASSING = frozenset(
    {
        "RequestThrottledException",
        "ThrottlingException",
        "ServiceQuotaExceededException",
        "ConcurrentLimitExceededException",
    }
)
"""Refusals that pass: of the first two EBS itself asks to try again (EBS direct APIs,
PutSnapshotBlock)."""
_LOST = (ConnectionError, HTTPClientError, ResponseParserError, IncompleteReadError)
"""What botocore raises where the network failed: no connection, no answer, or half of one."""


class Patience:
    """How long failures of single calls are borne: as long as any call of the whole still
    succeeds."""

    def __init__(self, what: str) -> None:
        self._what, self._succeeded = what, time.monotonic()

    def bears(self, why: Exception) -> bool:
        """Whether the call may be tried again after this error: the network failed, or AWS is
        busy."""
        if not (isinstance(why, _LOST) or (isinstance(why, ClientError) and _passes(why))):
            return False
        self.check(why)
        return True

    def check(self, why: Exception) -> None:
        """Raises Unreachable after PATIENCE_S without a success."""
        if time.monotonic() - self._succeeded > PATIENCE_S:
            raise Unreachable(
                f"EBS has not {self._what} for {PATIENCE_S:.0f} s: {why}",
                hint="check the network and the account's quotas; run again: it continues",
            )

    def ask(self, call: Callable[[], T], passes: Callable[[Exception], bool] | None = None) -> T:
        """What `call` returns, tried again while its errors pass; it has to bear being made
        twice."""
        answer = wait_for(call, limit_s=math.inf, pauses=_pauses(), passes=passes or self.bears)
        self._succeeded = time.monotonic()
        return answer


class Sender:
    """Sends blocks of one snapshot by the client `ebs`; many threads use one."""

    def __init__(self, ebs: Any, snapshot_id: str) -> None:
        self._ebs, self._id = ebs, snapshot_id
        self._began, self._patience = (
            time.monotonic(),
            Patience(f"confirmed a block of {snapshot_id}"),
        )

    def put(self, index: int, sha256: bytes, block: bytes) -> None:
        """Have EBS confirm the block.

        Raises Unreachable when EBS confirms no block for PATIENCE_S, StageFailed when the snapshot
        is gone, NotVerified when the block is not the one that was hashed.
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
            if session.code(error) == "ResourceNotFoundException":
                if time.monotonic() - self._began > SETTLE_S:
                    raise _gone(self._id) from error
                self._patience.check(error)
                return True
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
