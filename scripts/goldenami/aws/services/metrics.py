"""CloudWatch metrics that machines send. They have the names of CloudWatch's own agent, so that its
dashboards fit.

Source: "Metrics collected by the CloudWatch agent" and "Collect NVIDIA GPU metrics" in the
CloudWatch user guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from goldenami.aws.calls import batches, pages
from goldenami.aws.session import Client

NAMESPACE = "CWAgent"
GPU_PERCENT = "nvidia_smi_utilization_gpu"
GPU_MEMORY_MIB = "nvidia_smi_memory_used"
DISK_PERCENT = "disk_used_percent"
GPU_MEMORY_TOTAL_MIB = "nvidia_smi_memory_total"
CPU_PERCENT, MEMORY_PERCENT = "cpu_usage_active", "mem_used_percent"
IDLE, HELD = "golden_idle", "golden_idle_held"
"""Metrics of the role `golden_idle`, sent once a minute: 1 while the machine is idle by every
threshold, or while a user holds it; else 0."""
FREE, UNUSED = "golden_free", "golden_unused"
"""The same with the group as the only dimension: 1 while nobody uses the machine, even if it has
just started; and the value of IDLE."""

GROUP = "AutoScalingGroupName"
INSTANCE = "InstanceId"
TYPE = "InstanceType"
AMI = "ImageId"

HOUR_S = 3600
DAY_S = 24 * HOUR_S
"""Seconds of a period. CloudWatch keeps hours for 455 days, and answers periods of whole hours for
them ("Metrics retention")."""
SAMPLE_S = 10
"""Seconds that one sample of the metric stands for: PERIOD_S in the golden_idle role's agent."""
_QUERIES = 100
"""Metrics in one request: a month of hourly or a year of daily values of each stays below the
100,800 values that an answer may hold (GetMetricData)."""


@dataclass(frozen=True)
class MetricQuery:
    """A metric's name, a statistic of it for each `period_s`, and the time to look at."""

    name: str
    statistic: str
    since: datetime
    until: datetime
    period_s: int = HOUR_S


@dataclass(frozen=True)
class IdleMachine:
    """One machine by the dimensions of its metric, and its hours in that state."""

    instance: str
    type: str
    ami: str
    hours: float


def idle_machines(
    cloudwatch: Client,
    since: datetime,
    until: datetime,
    name: str = IDLE,
) -> Iterator[IdleMachine]:
    """Yield each machine that sent the metric `name` within the last two weeks, with the hours for
    which the metric was 1."""
    for dimensions, hours in values(cloudwatch, MetricQuery(name, "Sum", since, until)):
        yield IdleMachine(
            dimensions.get(INSTANCE, ""),
            dimensions.get(TYPE, ""),
            dimensions.get(AMI, ""),
            sum(hours.values()) * SAMPLE_S / HOUR_S,
        )


def values(
    cloudwatch: Client, query: MetricQuery
) -> Iterator[tuple[dict[str, str], dict[datetime, float]]]:
    """Yield the dimensions of each metric of that name, and its values by the period's begin."""
    # ListMetrics leaves out metrics that were not sent for two weeks.
    listed = {
        tuple(sorted((pair["Name"], pair["Value"]) for pair in row["Dimensions"]))
        for row in pages(
            cloudwatch, "list_metrics", "Metrics", Namespace=NAMESPACE, MetricName=query.name
        )
    }
    by_id = {f"m{number}": dict(dimensions) for number, dimensions in enumerate(sorted(listed))}
    for ids in batches(list(by_id), _QUERIES):
        found: dict[str, dict[datetime, float]] = {query_id: {} for query_id in ids}
        queries = [
            {
                "Id": query_id,
                "MetricStat": {
                    "Period": query.period_s,
                    "Stat": query.statistic,
                    "Metric": {
                        "Namespace": NAMESPACE,
                        "MetricName": query.name,
                        "Dimensions": [
                            {"Name": key, "Value": value} for key, value in by_id[query_id].items()
                        ],
                    },
                },
            }
            for query_id in ids
        ]
        for row in pages(
            cloudwatch,
            "get_metric_data",
            "MetricDataResults",
            MetricDataQueries=queries,
            StartTime=query.since,
            EndTime=query.until,
        ):
            found[row["Id"]] |= zip(row["Timestamps"], row["Values"], strict=True)
        yield from ((by_id[query_id], found[query_id]) for query_id in ids)
