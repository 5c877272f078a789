"""How long machines were idle, by the metric that the role `golden_idle` sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from goldenami.aws import metrics
from goldenami.aws.calls import batches, pages
from goldenami.aws.session import Client

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


def idle_machines(cloudwatch: Client, since: datetime, until: datetime) -> Iterator[IdleMachine]:
    """Every machine of the client's region that said so within the last two weeks (ListMetrics
    forgets others)."""
    listed = {tuple(sorted((each["Name"], each["Value"]) for each in row["Dimensions"]))
              for row in pages(
                  cloudwatch, "list_metrics", "Metrics", Namespace=metrics.NAMESPACE,
                  MetricName=metrics.IDLE)}
    by_id = {f"m{number}": dict(dimensions) for number, dimensions in enumerate(sorted(listed))}
    for ids in batches(list(by_id), _QUERIES):
        hours = dict.fromkeys(ids, 0.0)
        queries = [{"Id": name, "MetricStat": {"Period": HOUR_S, "Stat": "Sum", "Metric": {
            "Namespace": metrics.NAMESPACE, "MetricName": metrics.IDLE,
            "Dimensions": [{"Name": key, "Value": value} for key, value in by_id[name].items()]}}}
                   for name in ids]
        for row in pages(cloudwatch, "get_metric_data", "MetricDataResults",
                         MetricDataQueries=queries,
                         StartTime=since, EndTime=until):
            hours[row["Id"]] += sum(row["Values"]) * SAMPLE_S / HOUR_S
        for name in ids:
            known = by_id[name]
            yield IdleMachine(known.get(metrics.INSTANCE, ""), known.get(metrics.TYPE, ""),
                              known.get(metrics.AMI, ""),
                              hours[name])
