"""One block to EBS, as often as it takes while the upload as a whole gets on."""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
from botocore.parsers import ResponseParserError

from goldenami.aws import session
from goldenami.core.errors import NotVerified, StageFailed, Unreachable
from goldenami.core.worker_pool import WorkerPool
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
_PASSING = frozenset({"RequestThrottledException", "ThrottlingException",
                      "ServiceQuotaExceededException",
                      "ConcurrentLimitExceededException"})
"""Refusals that pass: of the first two EBS itself asks to try again (EBS direct APIs,
PutSnapshotBlock)."""
LOST = (ConnectionError, HTTPClientError, ResponseParserError)
"""What botocore raises where the network failed: no connection, no answer, or half of one."""


class Patience:
    """How long failures of single calls are borne: as long as any call of the whole still
    succeeds."""

    def __init__(self, what: str) -> None:
        self._what, self._succeeded = what, time.monotonic()

    def success(self) -> None:
        """A block went through."""
        self._succeeded = time.monotonic()

    def failure(self, why: object) -> None:
        """Return if the call may be tried again; raises Unreachable after PATIENCE_S without a
        success."""
        if time.monotonic() - self._succeeded > PATIENCE_S:
            raise Unreachable(f"EBS has not {self._what} for {PATIENCE_S:.0f} s: {why}",
                              hint="check the network and the account's quotas; run again: it "
                                   "continues")


def patiently(what: str, call: Callable[[], T]) -> T:
    """What `call` returns, tried again while the network fails or AWS is busy; it has to bear being
    made twice.

    Raises Unreachable after PATIENCE_S, and what else AWS refuses as botocore's.
    """
    patience, tries = Patience(what), 0
    while True:
        try:
            return call()
        except (ClientError, *LOST) as error:
            if isinstance(error, ClientError) and not passes(error):
                raise
            patience.failure(error)
        time.sleep(pause_s(tries))
        tries += 1


class Sender:
    """Sends blocks of one snapshot by the client `ebs`; many threads use one."""

    def __init__(self, ebs: Any, snapshot_id: str, pool: WorkerPool) -> None:
        self._ebs, self._id, self._pool = ebs, snapshot_id, pool
        self._began, self._patience = time.monotonic(), Patience("confirmed a block of "
                                                                 f"{snapshot_id}")

    def put(self, index: int, sha256: bytes, block: bytes) -> None:
        """Have EBS confirm the block.

        Raises Unreachable when EBS confirms no block of the upload for PATIENCE_S, StageFailed when
        the snapshot is gone, NotVerified when the block is not the one that was hashed; what else
        AWS refuses is raised as botocore's.
        """
        checksum, tries = base64.b64encode(sha256).decode(), 0
        while not self._is_confirmed(index, sha256, checksum, block):
            self._pool.pause(pause_s(tries))
            tries += 1
        self._patience.success()

    def _is_confirmed(self, index: int, sha256: bytes, checksum: str, block: bytes) -> bool:
        """Whether EBS confirms the block; False where it may be sent again."""
        try:
            self._ebs.put_snapshot_block(SnapshotId=self._id, BlockIndex=index, BlockData=block,
                                         DataLength=BLOCK,
                                         Checksum=checksum, ChecksumAlgorithm="SHA256")
        except (ClientError, *LOST) as error:
            self._weigh(error, index, sha256, block)
            return False
        return True

    def _weigh(self, error: Exception, index: int, sha256: bytes, block: bytes) -> None:
        """Return if the block may be sent again after `error`, else raise."""
        if isinstance(error, ClientError) and not passes(error):
            if session.code(error) == "ResourceNotFoundException":
                if time.monotonic() - self._began > SETTLE_S:
                    raise _gone(self._id) from error
            elif hashlib.sha256(block).digest() != sha256:
                raise NotVerified(f"block {index} of the disk is not the one that its bake listed",
                                  hint="the disk was changed: bake it again (FORCE=1), then run "
                                       "again") from error
            elif error.response.get("Reason") == "WRITE_REQUEST_TIMEOUT":
                raise _gone(self._id) from error
            else:
                raise error
        self._patience.failure(error)


def passes(error: ClientError) -> bool:
    """Whether AWS will answer otherwise later: it is busy, or failed itself."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return session.code(error) in _PASSING or status >= 500


def pause_s(tries: int) -> float:
    """Seconds to wait after `tries` repetitions."""
    bound: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** tries)
    return bound * random.random()  # noqa: S311 - spreads requests, hides nothing


def _gone(snapshot_id: str) -> StageFailed:
    return StageFailed(f"EBS no longer takes blocks of {snapshot_id}: deleted, expired or "
                       "completed by someone else",
                       hint="run again: it begins a new snapshot")
