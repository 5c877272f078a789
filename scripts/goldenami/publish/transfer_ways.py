"""What a disk's ways to its regions cost and take: sent to each from here, or sent to one and copied by EC2."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from goldenami.aws import price_list, prices
from goldenami.aws.price_list import ListedPrices
from goldenami.aws.session import Account
from goldenami.core import records, units
from goldenami.core.errors import BadInput
from goldenami.model.build_folder import ImageFolder
from goldenami.publish.publish_records import PublishRecord, TransferRates, TransferWay, TransferWays, Upload


@dataclass(frozen=True)
class TransferPrices:
    """US dollars of a block that is sent to a region, and of 10^9 bytes that are copied there from the `source`.

    `uplink_usd_gib` is what a GiB costs that leaves this machine.
    """

    put: ListedPrices
    out: ListedPrices
    uplink_usd_gib: float

    @classmethod
    def ask(cls, account: Account, source: str, regions: Collection[str], uplink_usd_gib: float) -> TransferPrices:
        """By the price list, for a source and the regions that lack the disk."""
        others = [region for region in regions if region != source]
        out = price_list.of_usage(account, price_list.transfer_from(source), others) if others else ListedPrices()
        return cls(price_list.of_usage(account, price_list.PUT_BLOCK, regions), out, uplink_usd_gib)

    def sent(self, region: str, upload: Upload) -> float | None:
        """US dollars for an upload to a region."""
        return prices.upload(upload.blocks, upload.bytes, self.uplink_usd_gib, self.put.usd.get(region))

    def copied(self, region: str, count: int) -> float | None:
        """US dollars for a copy of so many bytes to a region."""
        return prices.copy(count, self.out.usd.get(region))

    @property
    def source(self) -> str:
        """Where these prices are from, in words."""
        return next((each.source for each in (self.put, self.out) if each.unknown), self.put.source)


@dataclass(frozen=True)
class MeasuredRates:
    """What the last publish of an image from here measured; `build_id` is empty where none did."""

    build_id: str
    rates: TransferRates

    @classmethod
    def last(cls, folder: ImageFolder) -> MeasuredRates:
        """By the records of an image's builds; what cannot be read says nothing."""
        found = [record for record in _published(folder) if record.rates and record.rates.uplink_bytes_s]
        newest = max(found, key=lambda record: record.published_at, default=None)
        return cls(newest.build_id, newest.rates) if newest and newest.rates else cls("", TransferRates())

    def __str__(self) -> str:
        if not self.rates.uplink_bytes_s:
            return "no publish from here has measured the uplink"
        return f"{units.size(round(self.rates.uplink_bytes_s))} a second, as the publish of {self.build_id} measured"


def _published(folder: ImageFolder) -> Iterator[PublishRecord]:
    for build in folder.builds:
        try:
            if build.publish.exists():
                yield records.read(build.publish, PublishRecord)
        except BadInput:  # it is of no use here, and `publish` writes it anew
            continue


def compare(
    source: str, uploads: Mapping[str, Upload], whole_bytes: int, listed: TransferPrices, measured: MeasuredRates,
    copies: Collection[str],
) -> TransferWays:
    """Both ways. `uploads` is what each region that lacks the disk would be sent; `copies` are those that can get one.

    `source` is one of `uploads`, unless it has the disk. A copy takes `whole_bytes`.
    """
    uplink, rate = measured.rates.uplink_bytes_s, measured.rates.copy_bytes_s

    def way(sent: Collection[str], copied: Collection[str]) -> TransferWay:
        count = sum(uploads[region].bytes for region in sent)
        copy_s = whole_bytes / rate if copied and rate else None if copied else 0.0
        usd = units.total([*(listed.sent(region, uploads[region]) for region in sent),
                           *(listed.copied(region, whole_bytes) for region in copied)])
        return TransferWay(bytes=count, usd=usd, seconds=units.total([count / uplink if uplink else None, copy_s]))

    rest = [region for region in uploads if region not in copies]
    return TransferWays(source=source, sent=way(list(uploads), []), copied=way(rest, copies) if copies else None,
                        prices=listed.source, rates=str(measured))


def show(ways: TransferWays) -> Iterator[str]:
    """Both ways for a person, and by what they were computed."""
    yield f"sent from here to all: {_words(ways.sent)}"
    if ways.copied:
        yield f"sent once and copied from {ways.source}: {_words(ways.copied)}"
    yield f"prices: {ways.prices}; times: {ways.rates}"


def _words(way: TransferWay) -> str:
    usd = "price unknown" if way.usd is None else f"${way.usd:.3f}"
    seconds = "time unknown" if way.seconds is None else f"about {units.duration(way.seconds)}"
    return f"{units.size(way.bytes)} leave this machine, {usd}, {seconds}"
