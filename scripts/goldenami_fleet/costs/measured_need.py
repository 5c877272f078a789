"""What work without a GPU needs, by the metrics of its machines (role golden_idle)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta

from goldenami.aws.instances import instance_types
from goldenami.aws.inventory import inventory
from goldenami.aws.regions import for_each_region
from goldenami.aws.services import metrics
from goldenami.aws.services.metrics import MetricQuery
from goldenami.aws.session import Account, translated
from goldenami.core import clock
from goldenami.core.errors import BadInput

DAYS = 14
"""CloudWatch lists no metric whose last value is older ("ListMetrics")."""
VCPUS, MEMORY = "vCPUs", "GiB of memory"
_METRICS = {VCPUS: (metrics.CPU_PERCENT, "Average"), MEMORY: (metrics.MEMORY_PERCENT, "Maximum")}


@dataclass(frozen=True, order=True)
class Peak:
    """A machine's busiest hour: what it used, and of what."""

    used: float
    of: str


def read(
    account: Account, regions: Collection[str], image: str | None
) -> tuple[int | None, float | None, list[str]]:
    """Return the vCPUs and GiB that the busiest machines without a GPU used, of one image's if it
    is named, and lines on them. Raises BadInput if neither is known."""
    answers = for_each_region(regions, lambda region: list(_peaks(account, region, image)))
    peaks = [each for found in answers.done.values() for each in found]
    highest = {
        kind: max((peak for name, peak in peaks if name == kind), default=None)
        for kind in (VCPUS, MEMORY)
    }
    lines = [f"measured in {DAYS} days, the busiest hours of machines without a GPU:"]
    lines += [f"  {kind}: {peak.of if peak else 'unknown'}" for kind, peak in highest.items()]
    lines += [f"  {region} is not in it: {cause}" for region, cause in answers.causes.items()]
    if not peaks:
        answers.require_all("the need is not known", "or say --cores and --memory")
        raise BadInput(
            f"no machine without a GPU has sent metrics in {DAYS} days",
            hint="add the role golden_idle to its image, or say --cores and --memory",
        )
    vcpus, memory = (math.ceil(peak.used) if peak else None for peak in highest.values())
    return vcpus, memory, lines


def _peaks(account: Account, region: str, image: str | None) -> Iterator[tuple[str, Peak]]:
    ec2, until = account.ec2(region), clock.now()
    cloudwatch, since = account.client("cloudwatch", region), until - timedelta(days=DAYS)
    with translated(region):
        amis = {ami.id for ami in inventory.amis(ec2, tagged=True) if ami.image == image}
        found = [
            (kind, dimensions, max(by_hour.values()) / 100)
            for kind, (name, statistic) in _METRICS.items()
            for dimensions, by_hour in metrics.values(
                cloudwatch, MetricQuery(name, statistic, since, until)
            )
            # Other agents' sums over machines are of none.
            if by_hour and {metrics.INSTANCE, metrics.TYPE} <= dimensions.keys()
            if image is None or dimensions.get(metrics.AMI) in amis
        ]
        families = {dimensions[metrics.TYPE].split(".")[0] for _, dimensions, _ in found}
        rows = instance_types.describe(ec2, sorted(families))
    types = {row["InstanceType"]: row for row in rows if "GpuInfo" not in row}
    for kind, dimensions, share in found:
        if row := types.get(dimensions[metrics.TYPE]):
            vcpus, mib = row["VCpuInfo"]["DefaultVCpus"], row["MemoryInfo"]["SizeInMiB"]
            whole = vcpus if kind == VCPUS else mib / 1024
            machine = f"{row['InstanceType']} {dimensions[metrics.INSTANCE]}"
            yield kind, Peak(share * whole, f"{share * whole:.1f} of {whole:g}, on {machine}")
