"""On what a candidate is tested: one cheapest type for each architecture, Spot first, and a limit
of money."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from goldenami.model.supported import hardware
from goldenami.release.gpu_test import capacity
from goldenami.release.gpu_test.capacity import Offer, RegionTypes
from support.ec2.instance_types import described

ROOT = Path(__file__).resolve().parents[2]
PRICES = {"g4dn.xlarge": 0.526, "g4dn.2xlarge": 0.752, "g5.xlarge": 1.006, "g6.xlarge": 0.805,
          "g6e.xlarge": 1.861}


def region(
    families: Sequence[str], zones: Sequence[str] = ("a", "b"), *, priced: bool = True
) -> RegionTypes:
    rows = {row["InstanceType"]: row for row in described()
            if row["InstanceType"].partition(".")[0] in families}
    return RegionTypes(rows, dict.fromkeys(rows, zones), PRICES if priced else {})


def offers(families: Sequence[str], regions: dict[str, RegionTypes]) -> dict[str, list[Offer]]:
    return capacity.offers(hardware.load(ROOT), families, regions)


def test_each_architecture_once_the_cheapest_type_first() -> None:
    families = ["g4dn", "g5", "g6", "g6e"]
    found = offers(families, {"us-east-1": region(families)})
    assert {sm: each[0].kind.type for sm, each in found.items()} == {
        "75": "g4dn.xlarge", "86": "g5.xlarge", "89": "g6.xlarge"}


def test_spot_then_on_demand_type_then_region_then_zone() -> None:
    found = offers(["g4dn"], {"us-east-1": region(["g4dn"]), "us-west-2": region(["g4dn"], ["c"])})[
        "75"
    ]
    said = [(offer.spot, offer.kind.type, offer.region, offer.zone) for offer in found]
    assert said[:4] == [(True, "g4dn.xlarge", "us-east-1", "a"),
                        (True, "g4dn.xlarge", "us-east-1", "b"),
                        (True, "g4dn.xlarge", "us-west-2", "c"),
                        (True, "g4dn.2xlarge", "us-east-1", "a")]
    assert said[12] == (False, "g4dn.xlarge", "us-east-1", "a")


def test_without_prices_the_smallest_goes_first() -> None:
    found = offers(["g5"], {"us-east-1": region(["g5"], priced=False)})
    assert found["86"][0].kind.type == "g5.xlarge" and "price unknown" in str(found["86"][0])
    assert capacity.cheapest_usd(found, 1.0) is None


def test_the_limit_of_money_leaves_what_it_pays() -> None:
    found = offers(["g4dn", "g5"], {"us-east-1": region(["g4dn", "g5"])})
    assert capacity.cheapest_usd(found, 2.0) == pytest.approx(2 * (0.526 + 1.006))
    kept = capacity.affordable(found, 1.0, 2.1)
    assert {offer.kind.type for offer in kept["75"]} == {"g4dn.xlarge", "g4dn.2xlarge"}
    assert {offer.kind.type for offer in kept["86"]} == {"g5.xlarge"}
