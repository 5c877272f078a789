"""`candidate`, `latest`, template and ledger say the same, whatever was interrupted, repeated, or
read too early."""

from __future__ import annotations

import threading

import pytest
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillProxy
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState
from support.waiting import until


def golden(checkout: Checkout, *args: str, code: int = 0) -> str:
    ran = checkout.golden(*args)
    assert ran.code == code, ran.text
    return ran.text


@pytest.fixture
def published(checkout: Checkout, aws: Emulator) -> list[str]:
    """Ids of three builds, published one after the other."""
    aws.set(pending_s=0.01)
    return [checkout.publish(number) for number in (1, 2, 3)]


def latest() -> list[str]:
    return [RegionState(region).agree() for region in REGIONS]


@pytest.mark.parametrize("channel", ["candidate", "latest"])
def test_a_parameter_that_somebody_moved_is_brought_back(
    checkout: Checkout, published: list[str], channel: str,
) -> None:
    golden(checkout, "rollback", IMAGE)
    state = RegionState(REGIONS[1])
    state.ssm.put_parameter(Name=f"/golden-ami/{IMAGE}/{channel}", Type="String", Overwrite=True,
                            Value=state.amis()[f"{IMAGE}-{published[2]}"]["ImageId"])
    golden(checkout, "rollback", IMAGE)
    assert latest() == [published[1]] * 2


def test_a_second_rollback_says_where_it_is_and_goes_no_further(
    checkout: Checkout, published: list[str]
) -> None:
    golden(checkout, "rollback", IMAGE)
    text = golden(checkout, "rollback", IMAGE)
    assert f"{IMAGE} is already at {published[1]}" in text
    assert f"`scripts/golden rollback {IMAGE} --to {published[0]}` goes one build further" in text
    assert latest() == [published[1]] * 2
    golden(checkout, "rollback", IMAGE, "--to", published[0])
    assert latest() == [published[0]] * 2


@pytest.mark.slow
def test_pointers_are_written_although_a_read_says_that_they_are_right(
    checkout: Checkout, published: list[str], aws: Emulator,
) -> None:
    for seed in range(4):
        aws.late({"mode": "stale", "calls": ["ssm:*", "ec2:*Template*"], "share": 0.5,
                  "seconds": 4}, seed=seed)
        to = published[seed % 2]
        golden(checkout, "rollback", IMAGE, "--to", to)
        aws.late()
        assert latest() == [to] * 2, seed


def test_a_rollback_goes_through_while_the_next_build_uploads(
    checkout: Checkout, published: list[str], aws: Emulator, kill_proxy: KillProxy,
) -> None:
    """RegisterImage of the next build is not answered until the rollback is done."""
    fourth = builds.build(checkout.root, 4).name
    aws.late({"mode": "hanging", "calls": ["ec2:RegisterImage"], "seconds": 3600})
    before, ended = len(aws.calls()), list[tuple[int, str]]()
    uploading = threading.Thread(
        target=lambda: ended.append(kill_proxy.run(checkout.root, "publish", IMAGE))
    )
    uploading.start()
    until("RegisterImage in all regions", lambda: sum(
        call == "ec2:RegisterImage" for call, _ in aws.calls()[before:]) == len(REGIONS),
          poll_s=0.1)
    golden(checkout, "rollback", IMAGE)
    assert not ended, "the upload is still under way"
    assert latest() == [published[1]] * 2
    aws.late()
    uploading.join()
    assert (ended[0][0], f"another run changed the ledger of {IMAGE}" in ended[0][1]) == (
        7,
        True,
    ), ended
    golden(checkout, "publish", IMAGE)
    assert latest() == [fourth] * 2
