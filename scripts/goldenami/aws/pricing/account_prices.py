"""What the resources of an account's stack cost, by AWS's price list. What is not in it is not
guessed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from goldenami.aws.pricing import price_list
from goldenami.aws.pricing.price_list import (
    S3_GB_MONTH,
    TABLE_READ,
    TABLE_WRITE,
    ListedPrices,
    ListedUsage,
)
from goldenami.aws.session import Account

MILLION = 10 ** 6
_LISTED: Mapping[str, tuple[str, int, tuple[ListedUsage, ...]]] = {
    "AWS::S3::Bucket": ("${:g} for each GB in it", 1, (S3_GB_MONTH,)),
    "AWS::DynamoDB::Table": ("${:g} for a million writes, ${:g} of reads; a move makes about ten",
                             MILLION,
                             (TABLE_WRITE, TABLE_READ))}
"""Words, units that they name the price of, and what is listed."""
_FREE: Mapping[str, str] = {
    "AWS::IAM::": "nothing (https://aws.amazon.com/iam/)",
    "AWS::S3::BucketPolicy": "nothing by itself",
    "AWS::SNS::": "nothing by itself; e-mails beyond the free ones cost (https://aws.amazon.com/sns/pricing/)"}

Ask = Callable[[ListedUsage], ListedPrices]


def of_kinds(account: Account, kinds: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """What resources of these CloudFormation types cost a month in these regions: type and words,
    each once.

    The price list is asked once for each product.
    """
    regions, known = sorted({region for _, region in kinds}), dict[ListedUsage, ListedPrices]()

    def ask(usage: ListedUsage) -> ListedPrices:
        if usage not in known:
            known[usage] = price_list.of_usage(account, usage, regions)
        return known[usage]

    return list(dict.fromkeys((kind, of_kind(kind, region, ask)) for kind, region in kinds))


def of_kind(kind: str, region: str, ask: Ask) -> str:
    """What a resource of that type costs a month in `region`, with the source, or `unknown`."""
    if kind not in _LISTED:
        return next((words for begin, words in _FREE.items() if kind.startswith(begin)), "unknown")
    words, units, usages = _LISTED[kind]
    listed = [ask(usage) for usage in usages]
    usd = [each.usd[region] * units for each in listed if region in each.usd]
    if len(usd) < len(listed):
        return next((each.source for each in listed if each.unknown), "unknown")
    return f"{words.format(*usd)} ({listed[0].source})"
