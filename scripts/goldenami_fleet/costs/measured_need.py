"""What work without a GPU needs, by the metrics of its machines (role golden_idle)."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

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
VCPUS = "vCPUs"
_METRICS = {
    VCPUS: (metrics.CPU_PERCENT, "Average"),
    "GiB of memory": (metrics.MEMORY_PERCENT, "Maximum"),
}


def read(
    account: Account, regions: Collection[str], image: str | None
) -> tuple[list[int | None], list[str]]:
    """Return the vCPUs and GiB of the busiest hours of machines without a GPU, of one image's if it
    is named, and lines on them. Raises BadInput if neither is known."""
    answers = for_each_region(regions, lambda region: list(_peaks(account, region, image)))
    done = answers.require_all("the need is not known", "or say --cores and --memory")
    needs, lines = list[int | None](), [f"busiest hours of machines without a GPU in {DAYS} days:"]
    for kind in _METRICS:
        peaks = [peak for found in done.values() for name, peak in found if name == kind]
        used, text = max(peaks, default=(0.0, "unknown"))
        needs.append(math.ceil(used) or None)
        lines.append(f"  {kind}: {text}")
    if not any(needs):
        raise BadInput(
            f"no machine without a GPU has sent metrics in {DAYS} days",
            hint="add the role golden_idle to its image, or say --cores and --memory",
        )
    return needs, lines


def _peaks(
    account: Account, region: str, image: str | None
) -> Iterator[tuple[str, tuple[float, str]]]:
    ec2, cloudwatch, until = account.ec2(region), account.client("cloudwatch", region), clock.now()

    @functools.cache
    def described(family: str) -> dict[str, Any]:
        return {row["InstanceType"]: row for row in instance_types.describe(ec2, [family])}

    with translated(region):
        amis = {ami.id for ami in inventory.amis(ec2, tagged=True) if ami.image == image}
        for kind, (name, statistic) in _METRICS.items():
            query = MetricQuery(name, statistic, until - timedelta(days=DAYS), until)
            for dimensions, by_hour in metrics.values(cloudwatch, query):
                # Other agents' sums over machines are of none.
                if not by_hour or not {metrics.INSTANCE, metrics.TYPE} <= dimensions.keys():
                    continue
                machine = dimensions[metrics.TYPE]
                row = described(machine.split(".")[0]).get(machine, {"GpuInfo": {}})
                is_own = image is None or dimensions.get(metrics.AMI) in amis
                if is_own and "GpuInfo" not in row:
                    vcpus, mib = row["VCpuInfo"]["DefaultVCpus"], row["MemoryInfo"]["SizeInMiB"]
                    whole = vcpus if kind == VCPUS else mib / 1024
                    used = whole * max(by_hour.values()) / 100
                    text = f"{used:.1f} of {whole:g}, on {machine} {dimensions[metrics.INSTANCE]}"
                    yield kind, (used, text)
