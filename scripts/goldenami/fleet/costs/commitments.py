"""What an account is committed to: reservations and savings plans, their use, and what AWS would
buy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from goldenami.aws.pricing import billing
from goldenami.aws.pricing.billing import Commitment, PurchaseAdvice
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account
from goldenami.core import units
from goldenami.core.records import Record

WINDOW = timedelta(days=30)
"""What use and coverage are of: the last days, today without a bill yet."""
START_WITH = 0.5
"""The part of AWS's advice to begin with; more after a month of use."""
GUIDANCE = (
    "one year, not three, and no upfront payment; convertible for GPUs, whose generations "
    "change; start with half, and review its use after a month"
)
_RESERVATIONS = "reservations in "


class Commitments(Record):
    """What is active, percents of use and coverage over `WINDOW` by `Commitment.kind`, and
    advice; `unknown` says why a thing could not be asked."""

    held: list[Commitment]
    utilization: dict[str, float]
    coverage: dict[str, float]
    advice: list[PurchaseAdvice]
    unknown: dict[str, str]

    def lines(self) -> Iterator[str]:
        for kind, used in self.utilization.items():
            covered = self.coverage.get(kind)
            of_need = "" if covered is None else f", and cover {covered:.0f} % of the need"
            yield f"{kind}s are used to {used:.0f} % in the last 30 days{of_need}"
        for each in self.advice:
            saved = units.dollars(each.saves_usd_month)
            yield (
                f"AWS would buy: {each.kind} {each.what}, saves {saved} a month; begin "
                f"with {100 * START_WITH:.0f} % of it"
            )
        if self.advice:
            yield f"before you buy: {GUIDANCE}"


def look(account: Account, regions: Iterable[str], now: datetime) -> Commitments:
    """Use and coverage are asked only where something is held: else they cost cents and say
    nothing."""
    asks: dict[str, Callable[[], Any]] = {
        _RESERVATIONS + region: partial(_reservations, account, region) for region in regions
    }
    asks |= {
        "savings plans": lambda: list(billing.savings_plans(account)),
        "advice": lambda: list(billing.advice(account)),
    }
    answers = in_parallel(asks)
    done = answers.done
    held = [each for what, found in done.items() if what != "advice" for each in found]
    since, until = now.date() - WINDOW, now.date()
    of_use = {"utilization": billing.utilization, "coverage": billing.coverage} if held else {}
    used = in_parallel({what: partial(ask, account, since, until) for what, ask in of_use.items()})
    return Commitments(
        held=held,
        utilization=used.done.get("utilization", {}),
        coverage=used.done.get("coverage", {}),
        advice=done.get("advice", []),
        unknown=answers.causes | used.causes,
    )


def _reservations(account: Account, region: str) -> list[Commitment]:
    return list(billing.reservations(account.ec2(region)))
