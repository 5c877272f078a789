"""An account's reservations and savings plans: how far they are used, and what AWS would buy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from goldenami.aws.pricing import billing
from goldenami.aws.pricing.billing import Commitment, CommitmentUse, PurchaseAdvice
from goldenami.aws.regions import in_parallel
from goldenami.aws.session import Account
from goldenami.core import units
from goldenami.core.records import Record

WINDOW = timedelta(days=30)
"""Period of use and coverage: the last days before today, which has no bill yet."""
START_WITH = 0.5
"""Share of AWS's advice to buy first; more after a month of use."""
GUIDANCE = (
    "one year, not three, and no upfront payment; convertible for GPUs, whose generations "
    "change; start with half, and review its use after a month; a reservation counts in its region "
    "alone, or in its zone"
)
_RESERVATIONS = "reservations in "


class Commitments(Record):
    """The active commitments and AWS's advice. `utilization` and `coverage`, in percent, are over
    `WINDOW`, by `Commitment.kind`. `unknown` has the cause of each failed question, by what was
    asked."""

    held: list[Commitment]
    utilization: dict[str, CommitmentUse]
    coverage: dict[str, float]
    advice: list[PurchaseAdvice]
    unknown: dict[str, str]

    def lines(self) -> Iterator[str]:
        for kind, use in self.utilization.items():
            line = f"{kind}s are used to {use.percent:.0f} % in the last 30 days"
            if (percent_covered := self.coverage.get(kind)) is not None:
                line += f", and cover {percent_covered:.0f} % of the need"
            yield f"{line}; {saved(use)}"
        for purchase in self.advice:
            savings = units.dollars(purchase.saves_usd_month)
            yield (
                f"AWS would buy: {purchase.kind} {purchase.what}, saves {savings} a month; begin "
                f"with {100 * START_WITH:.0f} % of it"
            )
        if self.advice:
            yield f"before you buy: {GUIDANCE}"


def saved(use: CommitmentUse) -> str:
    """Whether the commitments saved money, in words."""
    if use.saved_usd is None:
        return "what they saved is unknown"
    if use.saved_usd < 0:
        return f"they cost {units.dollars(-use.saved_usd)} more than on demand: they do not save"
    return f"they saved {units.dollars(use.saved_usd)} against prices on demand"


def read_commitments(account: Account, regions: Iterable[str], now: datetime) -> Commitments:
    """Return the commitments of the account; reservations are listed in `regions`."""
    questions: dict[str, Callable[[], Any]] = {
        _RESERVATIONS + region: partial(_reservations, account, region) for region in regions
    }
    questions |= {
        "savings plans": lambda: list(billing.savings_plans(account)),
        "advice": lambda: list(billing.advice(account)),
    }
    answers = in_parallel(questions)
    lists = answers.done
    held = [
        commitment
        for name, commitments in lists.items()
        if name != "advice"
        for commitment in commitments
    ]
    since, until = now.date() - WINDOW, now.date()
    # Cost Explorer charges a cent a request, and without commitments its answer is empty.
    usage_questions: dict[str, Callable[[Account, date, date], Any]] = {}
    if held:
        usage_questions = {"utilization": billing.utilization, "coverage": billing.coverage}
    usage_answers = in_parallel(
        {name: partial(ask, account, since, until) for name, ask in usage_questions.items()}
    )
    return Commitments(
        held=held,
        utilization=usage_answers.done.get("utilization", {}),
        coverage=usage_answers.done.get("coverage", {}),
        advice=lists.get("advice", []),
        unknown=answers.causes | usage_answers.causes,
    )


def _reservations(account: Account, region: str) -> list[Commitment]:
    return list(billing.reservations(account.ec2(region)))
