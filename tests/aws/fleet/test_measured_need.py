"""`golden regions --measured`: what machines without a GPU needed, by what their agents sent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from goldenami.aws.services import metrics
from goldenami.core import clock
from goldenami_fleet.costs.family_regions import RegionsRecord
from support.aws.digest_weeks import send
from support.aws.emulator import Emulator
from support.aws.seeded_account import IMAGE, SeededAccount
from support.builds.builds import Checkout

ASKED = ("regions", "--measured", "--region", "us-east-1")
CPU, MEMORY = metrics.CPU_PERCENT, metrics.MEMORY_PERCENT


@pytest.fixture
def machines(aws: Emulator) -> None:
    """Metrics of machines: the last ones have a GPU, an unknown type, or ended long ago."""
    for instance, days, percent, kind in (
        ("i-large", 2, 20.0, "m7i.8xlarge"),
        ("i-small", 2, 70.0, "c7i.2xlarge"),
        ("i-gpu", 2, 90.0, "g5.16xlarge"),
        ("i-of-no-type", 2, 90.0, "x0.huge"),
        ("i-long-ago", 15, 100.0, "m7i.8xlarge"),
    ):
        send(CPU, instance, clock.now() - timedelta(days=days), 5, percent, kind)


def test_the_need_is_that_of_the_busiest_hour_by_each_machine_s_size(
    checkout: Checkout, machines: None
) -> None:
    """20 % of 32 vCPUs are more than 70 % of 8."""
    said = checkout.run(*ASKED)
    assert "  vCPUs: 6.4 of 32, on m7i.8xlarge i-large\n  GiB of memory: unknown\n" in said
    send(MEMORY, "i-large", clock.now() - timedelta(days=1), 1, 100 * 40.2 / 128, "m7i.8xlarge")
    assert "  GiB of memory: 40.2 of 128, on m7i.8xlarge i-large\n" in checkout.run(*ASKED)
    asked = [checkout.run(*words, "--json") for words in (ASKED, named("7", "41"))]
    measured, by_hand = map(RegionsRecord.model_validate_json, asked)
    assert measured.regions == by_hand.regions and measured.regions["us-east-1"]
    larger = checkout.run(*ASKED, "--cores", "16")
    assert "m7i.4xlarge" in larger and "m7i.2xlarge" not in larger


def named(cores: str, memory: str) -> tuple[str, ...]:
    return ("regions", "--cores", cores, "--memory", memory, "--region", "us-east-1")


def test_an_image_s_need_is_that_of_its_own_machines(
    checkout: Checkout, machines: None, account: SeededAccount
) -> None:
    said = checkout.run("regions", IMAGE, *ASKED[1:], code=2)
    assert "no machine without a GPU has sent metrics in 14 days" in said
    began = clock.now() - timedelta(days=1)
    send(CPU, "i-own", began, 1, 50.0, "c7i.large", ImageId=account.ami(1))
    assert "  vCPUs: 1.0 of 2, on c7i.large i-own\n" in checkout.run("regions", IMAGE, *ASKED[1:])


def test_a_need_that_nobody_may_read_is_said(checkout: Checkout, aws: Emulator) -> None:
    aws.set(denied={"*": ["cloudwatch:ListMetrics"]})
    assert "cloudwatch:ListMetrics" in checkout.run(*ASKED, code=8)
