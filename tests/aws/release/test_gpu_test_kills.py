"""`golden gpu-test` killed at every call to AWS: by the next run, or by a sweep, nothing that costs
is left.

Its instances have no machine here, so each run ends at SSH. What a run calls after that comes when
its instances are terminated.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.builds.builds import GPU_IMAGE, REGIONS, Checkout
from support.gpu import candidates

NO_SSH, KILLED, INTERRUPTED = 5, -9, 130
TEST = ("gpu-test", GPU_IMAGE, "--wait-minutes", "0")


@pytest.fixture
def root(aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "0.1")
    aws.set(pending_s=0, instance_address="127.0.0.9")
    checkout = Checkout(tmp_path / "checkout", monkeypatch)
    candidates.publish(checkout)
    return checkout.root


def points(root: Path, kill_proxy: KillProxy) -> list[KillPoint]:
    code, text = kill_proxy.run(root, *TEST)
    assert (code, "SSH did not answer" in text) == (NO_SSH, True), text
    assert candidates.left() == []
    return kill_proxy.points()


def killed(root: Path, kill_proxy: KillProxy, point: KillPoint, *, by_sweep: bool) -> int:
    """Kill a run, then have what it left removed; returns how many things that were."""
    code, text = kill_proxy.run(root, *TEST, point=point)
    assert code == (KILLED if kill_proxy.struck else NO_SSH), f"{point}: {code}\n{text}"
    before = len(candidates.left())
    code, text = kill_proxy.run(root, "sweep") if by_sweep else kill_proxy.run(root, *TEST)
    assert code == (0 if by_sweep else NO_SSH), f"{point}:\n{text}"
    assert candidates.left() == [], f"{point}, {'sweep' if by_sweep else 'the next run'}:\n{text}"
    return before


@pytest.mark.long
@pytest.mark.parametrize("by_sweep", [False, True], ids=["next run", "sweep"])
def test_what_a_run_leaves_that_was_killed_at_any_call_is_removed(
    root: Path,
    kill_proxy: KillProxy,
    by_sweep: bool,
) -> None:
    found = points(root, kill_proxy)
    assert {point.region for point in found} >= set(REGIONS)
    left = {str(point): killed(root, kill_proxy, point, by_sweep=by_sweep) for point in found}
    assert any(left.values())
    print(
        f"{len(found)} kills, {sum(map(bool, left.values()))} of them left something, nothing "
        "is left"
    )


@pytest.mark.long
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_removes_all_itself(
    root: Path, kill_proxy: KillProxy, by: signal.Signals
) -> None:
    point = KillPoint("ec2:DescribeInstances", REGIONS[0], 2, When.BEFORE)
    code, text = kill_proxy.run(root, *TEST, point=point, by=by)
    assert (kill_proxy.struck, candidates.left()) == (True, []), text
    assert code == INTERRUPTED, text
