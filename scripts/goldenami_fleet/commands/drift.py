"""The command on drift: compare what runs with what was baked."""

from __future__ import annotations

from goldenami.aws.services import notify
from goldenami.aws.session import translated
from goldenami.commands import print_record, raise_failed, run_url
from goldenami.commands.checkout import Checkout
from goldenami.core import records
from goldenami.core.errors import BadInput, GoldenError

from goldenami_fleet.commands.drift_of_disks import compare_disk, compare_instance
from goldenami_fleet.commands.drift_options import FOLDER, DriftOptions, raise_outcome
from goldenami_fleet.drift import fleet, fleet_records, running_instance
from goldenami_fleet.drift.fleet_records import DRIFT_FILE


@translated()
def cmd_drift(checkout: Checkout, options: DriftOptions) -> int:
    """Say what runs and is not as published, or what of an instance's disk is not as baked."""
    if options.disk:
        return compare_disk(checkout, options, options.disk)
    _check_not_of_disk(options)
    if options.instance:
        return compare_instance(checkout, options, options.instance)
    return _compare_fleet(checkout, options)


def _check_not_of_disk(options: DriftOptions) -> None:
    """Raises BadInput for an option that only --disk takes."""
    if options.build is not None:
        raise BadInput(
            "--build is of --disk: the tags of an instance's AMI say which build it is",
            hint="leave --build out, or `golden drift IMAGE --disk FILE --build ID`",
        )
    if options.user_data is not None:
        raise BadInput(
            "--user-data is of --disk: EC2 says what an instance was launched with",
            hint="leave it out",
        )


def _compare_fleet(checkout: Checkout, options: DriftOptions) -> int:
    notify.check()
    images = checkout.images_by_region(options.image, options.region)
    account = checkout.account(also=images)
    definitions = list(checkout.definitions(options.image))
    # The ledger and the tags are only in the account that publishes.
    for definition in definitions:
        if definition.publish and definition.publish.account:
            account.expect(definition.publish.account, (options.region or definition.regions)[0])
    record, failed = fleet.read_fleet(account, images)
    records.write(checkout.root / FOLDER / DRIFT_FILE, record)
    lines = list(fleet_records.lines(record))
    print_record(record, lines, options.as_json)
    drifted = any(record.rows())
    # Regions that failed are reported, too: drift may hide there.
    notice_errors = list[GoldenError]()
    if drifted or failed:
        notice_errors = notify.tell(
            checkout.account(*definitions), lines[-1], "\n".join([*lines[:-1], run_url()])
        )
    raise_outcome(
        fleet_records.headline(record) if drifted else "",
        notice_errors,
        f"{running_instance.replacing('REGION', 'ID')}; a group takes the default by its next "
        "refresh",
    )
    raise_failed(failed, "not every region could be read")
    return 0
