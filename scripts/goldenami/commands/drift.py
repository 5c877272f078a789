"""The commands on drift: what runs against what was baked."""

from __future__ import annotations

import os

from goldenami.aws import notify
from goldenami.aws.session import Account, translated
from goldenami.commands import AsJson, OptionalImage, Regions
from goldenami.commands.account_views import images_by_region, print_record, raise_failed
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import GoldenError, NotVerified
from goldenami.drift import fleet, fleet_summary
from goldenami.drift.fleet_records import DRIFT_FILE, SUMMARY_FILE

FOLDER = "build/drift"
"""Where the fleet's record and its summary are."""


@translated()
def cmd_drift(
    checkout: Checkout, image: OptionalImage = None, *, as_json: AsJson = False, region: Regions,
) -> int:
    """Say what runs of an image in each region, and what of it is not as published."""
    return _fleet(checkout, image, region, as_json=as_json)


def _fleet(checkout: Checkout, image: str | None, only: list[str], *, as_json: bool) -> int:
    account = Account()
    record, failed = fleet.look(account, images_by_region(checkout, image, only))
    summary = fleet_summary.markdown(record, os.environ.get("GOLDEN_RUN_URL", ""))
    folder = checkout.root / FOLDER
    records.write(folder / DRIFT_FILE, record)
    records.write_text(folder / SUMMARY_FILE, summary)
    print_record(record, fleet_summary.show(record), as_json)
    drifted = any(record.rows())
    untold = notify.tell(account, fleet_summary.headline(record), summary) if drifted or failed else []
    _end(fleet_summary.headline(record) if drifted else "", untold)
    raise_failed(failed, "not every region could be read")
    return 0


def _end(drift: str, untold: list[GoldenError]) -> None:
    """What drifted outranks who could not be told of it."""
    if drift:
        raise NotVerified(f"drift: {drift}", tail="\n".join(error.message for error in untold),
                          hint="`golden drift-repair INSTANCE` replaces what drifted; "
                               "a group takes the default by its next refresh")
    if untold:
        raise untold[0]
