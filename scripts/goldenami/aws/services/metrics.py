"""The metrics that machines send, by the names of CloudWatch's own agent: dashboards for one fit
the other.

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
CPU_PERCENT = "cpu_usage_active"
IDLE, HELD = "golden_idle", "golden_idle_held"
"""Of the role `golden_idle` alone: 1 while a machine is idle by every line, or held by a user, else
0, once a minute."""
FREE, UNUSED = "golden_free", "golden_unused"
"""Likewise, by the group alone: 1 while nobody uses a machine, also one that has just started; and
the same as IDLE."""

GROUP = "AutoScalingGroupName"
INSTANCE = "InstanceId"
TYPE = "InstanceType"
AMI = "ImageId"

HOUR_S = 3600
SAMPLE_S = 10
"""Seconds for which each sample of the metric stands: PERIOD_S of the role golden_idle's agent."""
_QUERIES = 100
"""Metrics of one request: a month of hours of each is within the 100,800 values of an answer
(GetMetricData)."""


@dataclass(frozen=True)
class IdleMachine:
    """One machine's hours, by its metric's dimensions."""

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
    """Every machine that sent the agent's metric `name` within the last two weeks, with the hours
    for which it was so."""
    for known, hours in hourly(cloudwatch, name, "Sum", since, until):
        yield IdleMachine(
            known.get(INSTANCE, ""),
            known.get(TYPE, ""),
            known.get(AMI, ""),
            sum(hours) * SAMPLE_S / HOUR_S,
        )


def hourly(
    cloudwatch: Client,
    name: str,
    statistic: str,
    since: datetime,
    until: datetime,
) -> Iterator[tuple[dict[str, str], list[float]]]:
    """The dimensions of each metric of that name, and its values by the hour. ListMetrics forgets
    what was not sent for two weeks."""
    listed = {
        tuple(sorted((each["Name"], each["Value"]) for each in row["Dimensions"]))
        for row in pages(
            cloudwatch, "list_metrics", "Metrics", Namespace=NAMESPACE, MetricName=name
        )
    }
    by_id = {f"m{number}": dict(dimensions) for number, dimensions in enumerate(sorted(listed))}
    for ids in batches(list(by_id), _QUERIES):
        values: dict[str, list[float]] = {each: [] for each in ids}
        queries = [
            {
                "Id": each,
                "MetricStat": {
                    "Period": HOUR_S,
                    "Stat": statistic,
                    "Metric": {
                        "Namespace": NAMESPACE,
                        "MetricName": name,
                        "Dimensions": [
                            {"Name": key, "Value": value} for key, value in by_id[each].items()
                        ],
                    },
                },
            }
            for each in ids
        ]
        for row in pages(
            cloudwatch,
            "get_metric_data",
            "MetricDataResults",
            MetricDataQueries=queries,
            StartTime=since,
            EndTime=until,
        ):
            values[row["Id"]] += row["Values"]
        yield from ((by_id[each], values[each]) for each in ids)
