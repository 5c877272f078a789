"""On what a candidate is tested: one cheapest type for each class, Spot first, and a limit
of money."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.supported import allowed_types, hardware
from goldenami.model.supported.allowed_types import TypeRule
from goldenami.release.gpu_test import capacity
from goldenami.release.gpu_test.capacity import Offer, RegionTypes
from support.ec2.instance_types import described

ROOT = Path(__file__).resolve().parents[3]
PRICES = {
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g5.xlarge": 1.006,
    "g6.xlarge": 0.805,
    "g6e.xlarge": 1.861,
}


def region(families: Sequence[str], zones: Sequence[str] = ("a", "b")) -> RegionTypes:
    rows = {
        row["InstanceType"]: row
        for row in described()
        if row["InstanceType"].partition(".")[0] in families
    }
    return RegionTypes(rows, dict.fromkeys(rows, zones))


def offers(
    families: Sequence[str],
    regions: dict[str, RegionTypes],
    rule: TypeRule = TypeRule.PROVED,
) -> dict[str, list[Offer]]:
    priced = {kind: dict.fromkeys(regions, usd) for kind, usd in PRICES.items()}
    table = hardware.load(ROOT)
    classes = allowed_types.tested_classes(rule, table, families)
    return capacity.offers(table, families, classes, regions, priced)


def test_spot_then_on_demand_type_then_region_then_zone() -> None:
    regions = {"us-east-1": region(["g4dn"]), "us-west-2": region(["g4dn"], ["c"])}
    said = [
        (offer.spot, offer.kind.type, offer.region, offer.zone)
        for offer in offers(["g4dn"], regions)["75-one"]
    ]
    assert said[:4] == [
        (True, "g4dn.xlarge", "us-east-1", "a"),
        (True, "g4dn.xlarge", "us-east-1", "b"),
        (True, "g4dn.xlarge", "us-west-2", "c"),
        (True, "g4dn.2xlarge", "us-east-1", "a"),
    ]
    assert said[12] == (False, "g4dn.xlarge", "us-east-1", "a")


def test_the_limit_of_money_leaves_what_it_pays() -> None:
    found = offers(["g4dn", "g5"], {"us-east-1": region(["g4dn", "g5"])})
    assert capacity.cheapest_usd(found, 2.0) == pytest.approx(2 * (0.526 + 1.006))
    kept = capacity.affordable(found, 1.0, 2.1)
    assert {offer.kind.type for offer in kept["75-one"]} == {"g4dn.xlarge", "g4dn.2xlarge"}
    assert {offer.kind.type for offer in kept["86-one"]} == {"g5.xlarge"}


def test_a_size_that_nobody_has_written_down_is_not_tested_on() -> None:
    """Its record would not count."""
    known = region(["g4dn"])
    rows = {
        **known.described,
        "g4dn.tiny": {**known.described["g4dn.xlarge"], "InstanceType": "g4dn.tiny"},
    }
    regions = {"us-east-1": RegionTypes(rows, dict.fromkeys(rows, "a"))}
    kinds = [offer.kind.type for offer in offers(["g4dn"], regions)["75-one"]]
    assert "g4dn.xlarge" in kinds and "g4dn.tiny" not in kinds


def test_one_machine_of_each_class_that_is_declared() -> None:
    """One GPU proves nothing about NVSwitches, nor about several GPUs."""
    regions = {"us-east-1": region(["g4dn", "p5"])}
    found = offers(["g4dn", "p5"], regions, TypeRule.DECLARED)
    kinds = {name: {offer.kind.type for offer in choices} for name, choices in found.items()}
    assert kinds["90-one"] == {"p5.4xlarge"}
    assert kinds["90-nvswitch"] == {"p5.48xlarge"}
    assert kinds["75-several"] == {"g4dn.12xlarge"}
    assert list(found) == ["75-one", "75-several", "90-one", "90-nvswitch"]


def test_a_class_that_no_region_offers_is_refused_in_a_line() -> None:
    said = (
        "no region of the definition offers a machine of class 86-one (sm_86, one GPU) of g4dn, g5"
    )
    with pytest.raises(BadInput, match=re.escape(said)):
        offers(["g4dn", "g5"], {"us-east-1": region(["g4dn"])})
