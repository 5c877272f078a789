from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import SSLError
from goldenami.aws.snapshots import ebs, send
from goldenami.core.errors import HostNotReady, StageFailed, Unreachable
from support.aws import ebs_sink
from support.aws.ebs_sink import BLOCK, Sink
from support.aws.ebs_wire import Refused
from support.aws.upload_setup import UploadSetup
from support.debian import tls

# --- faults ---

def some(share: float, seed: int = 7) -> Any:
    """Whether to fail a call: `share` of them, the same in each run."""
    source = random.Random(seed)
    return lambda: source.random() < share


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["throttled", "failing", "unanswered"])
def test_thirty_percent_of_failing_calls_are_survived(setup: UploadSetup, kind: str) -> None:
    fails = some(0.3)

    def fail(_action: str, _count: int) -> bool | None:
        if not fails():
            return None
        if kind == "throttled":
            raise Refused(400, "RequestThrottledException", "slow down", "ACCOUNT_THROTTLED")
        if kind == "failing":
            raise Refused(500, "InternalServerException", "sorry")
        return False

    if kind == "unanswered":
        setup.sink.faults.after = lambda action, count: (
            fail(action, count) if action != "StartSnapshot" else None
        )
    else:
        setup.sink.faults.before = fail
    done = setup.upload(setup.sparse(100))
    assert setup.sink.differences(done.id, setup.disk) == []
    assert len(setup.sink.snaps) == 1 and done.blocks_sent == 100


@pytest.mark.usefixtures("quick")
def test_connections_cut_in_the_middle_of_a_block_are_survived(setup: UploadSetup) -> None:
    setup.sink.faults.cut = lambda count: BLOCK // 2 if count % 3 == 0 else None
    done = setup.upload(setup.sparse(60))
    assert setup.sink.differences(done.id, setup.disk) == []
    assert setup.sink.heads > 60 and setup.sent_twice() == 0


@pytest.mark.usefixtures("quick")
def test_when_ebs_stops_confirming_the_upload_ends_and_can_continue(
    setup: UploadSetup, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "PATIENCE_S", 0.2)

    def down(action: str, count: int) -> None:
        if action == "PutSnapshotBlock" and count > 5:
            raise Refused(503, "InternalServerException", "down")

    setup.sink.faults.before = down
    listed = setup.sparse(20)
    with pytest.raises(
        Unreachable, match=r"EBS has not confirmed a block of snap-0+ for 0 s"
    ) as raised:
        setup.upload(listed)
    assert raised.value.hint.endswith("run again: it continues")
    setup.sink.faults = ebs_sink.Faults()
    done = setup.upload(listed)
    assert done.blocks_sent == 15 and setup.sink.differences(done.id, setup.disk) == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("action", "silent"), [
    ("StartSnapshot", False), ("PutSnapshotBlock", True), ("CompleteSnapshot", True),
    ("EC2", False)])
def test_an_outage_is_outlived(setup: UploadSetup, action: str, silent: bool) -> None:
    """The server is gone for a second, whatever is under way; more calls fail than botocore's
    retries would bear."""
    gone = threading.Event()

    def end(asked: str, _count: int) -> bool | None:
        if asked != action or gone.is_set():
            return None
        gone.set()
        setup.sink.door.go_out(silent=silent)
        threading.Timer(1.0, setup.sink.door.come_back).start()
        return False

    setup.sink.faults.before = end
    done = setup.upload(setup.sparse(200), in_flight=32)
    assert gone.is_set()
    assert setup.sink.differences(done.id, setup.disk) == [] and len(setup.sink.snaps) == 1


@pytest.mark.usefixtures("quick")
def test_a_new_snapshot_that_some_servers_do_not_know_yet_is_waited_for(setup: UploadSetup) -> None:
    def unknown(action: str, count: int) -> None:
        if action == "PutSnapshotBlock" and count < 12:
            raise ebs_sink.lost("snap-0")

    setup.sink.faults.before = unknown
    done = setup.upload(setup.sparse(20))
    assert setup.sink.differences(done.id, setup.disk) == []


def test_a_snapshot_deleted_during_the_upload_is_named(
    setup: UploadSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "SETTLE_S", 0.0)

    def delete(action: str, count: int) -> None:
        if (action, count) == ("PutSnapshotBlock", 10):
            setup.sink.delete(max(setup.sink.snaps))

    setup.sink.faults.after = delete
    listed = setup.sparse(40)
    with pytest.raises(StageFailed, match=r"no longer takes blocks of snap-0+: deleted") as raised:
        setup.upload(listed)
    assert raised.value.hint == "run again: it begins a new snapshot"
    setup.sink.faults = ebs_sink.Faults()
    assert setup.sink.differences(setup.upload(listed).id, setup.disk) == []


@pytest.mark.usefixtures("quick")
def test_a_snapshot_that_was_sealed_without_an_answer_is_waited_for(setup: UploadSetup) -> None:
    setup.sink.faults.seal_s = 1
    setup.sink.faults.after = lambda action, count: (
        False if (action, count) == ("CompleteSnapshot", 1) else None
    )
    done = setup.upload(setup.sparse(3))
    assert setup.sink.calls["CompleteSnapshot"] == 2, (
        "the second was refused: the snapshot is being sealed"
    )
    assert setup.sink.snaps[done.id].state == "completed"


def test_a_failed_upload_does_not_wait_for_requests_without_an_answer(setup: UploadSetup) -> None:
    release, answered = threading.Event(), []

    def hang(action: str, count: int) -> None:
        if action == "PutSnapshotBlock" and count == 3:
            release.wait(60)
            answered.append(count)
        if action == "PutSnapshotBlock" and count > 8:
            raise Refused(403, "AccessDeniedException",
                          "User: x is not authorized to perform: ebs:PutSnapshotBlock")

    setup.sink.faults.before = hang
    with pytest.raises(HostNotReady):
        setup.upload(setup.sparse(20))
    assert not answered, "the upload waited for the server"
    release.set()


def test_a_snapshot_that_never_completes_is_reported(
    setup: UploadSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebs, "SEAL_S", 0.3)
    setup.sink.faults.seal_s = 60
    with pytest.raises(StageFailed, match=r"snap-0+ is pending \d s after it was completed"):
        setup.upload(setup.sparse(2))


@pytest.mark.parametrize("trusted", [True, False])
def test_over_tls_only_a_known_certificate_gets_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool,
) -> None:
    bundle, context = tls.certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    sink = Sink(tls=context)
    setup = UploadSetup(sink, tmp_path)
    listed = setup.sparse(10)
    if trusted:
        done = setup.upload(listed)
        assert sink.differences(done.id, setup.disk) == []
    else:
        with pytest.raises(SSLError):
            setup.ebs.put_snapshot_block(SnapshotId="snap-0", BlockIndex=0, BlockData=bytes(BLOCK),
                                         DataLength=BLOCK,
                                         Checksum="", ChecksumAlgorithm="SHA256")
        assert not sink.calls
    sink.close()
