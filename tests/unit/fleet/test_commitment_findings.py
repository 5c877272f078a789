"""Commitments that are not used, where AWS does not say how much of the need they cover."""

from __future__ import annotations

from goldenami.aws.pricing.billing import Commitment, CommitmentUse
from goldenami.core import clock
from goldenami_fleet.costs.commitments import Commitments
from goldenami_fleet.digest import from_records


def test_a_cover_that_is_not_known_is_not_0_percent() -> None:
    reservation = Commitment(
        kind="reservation",
        id="r-1",
        what="1 x g5.xlarge",
        region="us-east-1",
        begins="2026-01-01T00:00:00Z",
        ends="2099-01-01T00:00:00Z",
    )
    committed = Commitments(
        held=[reservation],
        utilization={"reservation": CommitmentUse(percent=40, saved_usd=None)},
        coverage={},
        advice=[],
        unknown={"coverage": "not allowed"},
    )
    [found] = from_records.commitments(committed, clock.now())
    assert "they cover a part of the need that is not known; " in found.what
