"""The records of a build: what they keep and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from goldenami.model.builds.build_records import Verdict
from pydantic import ValidationError
from support.builds import report_data as data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"build_id": "0" * 12}, "does not begin lock_sha256"),
        ({"started_at": "2026-11-24T22:10:04"}, "not in UTC"),
        ({"started_at": "2026-11-24T22:10:04+01:00"}, "not in UTC"),
        ({"started_at": "yesterday"}, "not an ISO 8601 time"),
        ({"phases": [{"name": "base", "seconds": float("nan")}]}, "finite"),
    ],
)
def test_bake_record_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        data.bake_record(data.lock(), **changes)


def test_verdict_must_be_earned() -> None:
    bake = data.bake_record(data.lock())
    with pytest.raises(
        ValidationError, match="verdict is verified but network_tuning::01 is not correct"
    ):
        data.verify_record(bake, data.FAILING, verdict=Verdict.VERIFIED)
    with pytest.raises(ValidationError, match="verdict is verified but no check ran"):
        data.verify_record(bake, checks=[])
    assert data.verify_record(bake, checks=[], verdict=Verdict.NOT_VERIFIED).checks == []
