"""The offers of an account: reads which declared types its regions have, where, and at what
price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.instances import instance_types
from goldenami.aws.instances.instances import Subnet
from goldenami.aws.pricing import prices
from goldenami.aws.regions import for_each_region
from goldenami.core.errors import BadInput
from goldenami.model.supported import allowed_types, hardware
from goldenami.release.gpu_test import capacity
from goldenami.release.gpu_test.capacity import Offer, RegionTypes


def read(
    root: Path,
    image: ImageInAccount,
    subnets: Mapping[str, Mapping[str, Subnet]],
    *,
    hours: float,
    most_usd: float | None,
) -> dict[str, list[Offer]]:
    """The instances that can be launched, by class, and for `hours` cost no more than
    `most_usd` together. `subnets` are those of the definition, by region and zone."""
    families_by_name = hardware.load(root)
    families = [name for name in image.definition.hardware if families_by_name[name].sm]
    classes = allowed_types.tested_classes(image.section.instance_types, families_by_name, families)

    def types(name: str) -> RegionTypes:
        client = image.with_short_timeouts.account.ec2(name)
        rows = {row["InstanceType"]: row for row in instance_types.describe(client, families)}
        zones: dict[str, list[str]] = {}
        for instance_type, zone in instance_types.zones(client, families):
            # A definition without subnets allows every zone.
            if zone in subnets[name] or not subnets[name]:
                zones.setdefault(instance_type, []).append(zone)
        return RegionTypes(rows, zones, prices.spot_by_zone(client, sorted(rows)))

    region_types = for_each_region(subnets, types).require_all()
    names = sorted(set[str]().union(*(types.described for types in region_types.values())))
    priced, why_unknown = prices.hourly_by_type(image.account, names)
    if why_unknown and most_usd is not None:
        raise BadInput(f"no price is known: {why_unknown}", hint="mend that, or drop --max-usd")
    offers = capacity.offers(families_by_name, families, classes, region_types, priced)
    return capacity.affordable(offers, hours, most_usd)
