"""Weeks of an account whose bill, metrics and commitments a test states, and whoever is told of
them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import boto3
import pytest
from goldenami.aws.services import metrics, notify
from goldenami.core import clock
from goldenami_fleet.digest.weeks import WEEKS, Week

from support.aws.account_template import BUCKET
from support.aws.emulator import Emulator
from support.aws.seeded_account import REAL_NOW, Calendar
from support.builds.builds import IMAGE, Checkout
from support.idle.topic import Topic
from support.loopback import Loopback, QuietHandler

REGION = "us-east-1"
EC2, S3 = "Amazon Elastic Compute Cloud - Compute", "Amazon Simple Storage Service"
_LINE = re.compile(r"^- ([a-z ]+): (.*?)(?: \(.*?\))?: ", re.MULTILINE)


class Webhook:
    """A webhook that keeps what it is told, or answers with a `status` that is an error; 0: it
    keeps that and ends the connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts, self.status = list[str](), 200
        monkeypatch.setenv(notify.WEBHOOK, "")
        outer = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.status in (200, 0):
                    outer.texts.append(json.loads(body)["text"])
                if outer.status:
                    self.answer(outer.status)
                self.close_connection = not outer.status

        self.server = Loopback(Handler)
        monkeypatch.setenv(notify.WEBHOOK, f"{self.server.url}/secret")


def told(text: str) -> list[str]:
    """`kind: subject` of each finding of a message."""
    return sorted(f"{kind}: {subject}" for kind, subject in _LINE.findall(text))


class Weeks:
    """An account of one image in one region, week by week."""

    def __init__(self, aws: Emulator, checkout: Checkout, calendar: Calendar) -> None:
        self.aws, self.checkout, self.calendar = aws, checkout, calendar
        aws.set(pending_s=0)  # AMIs are registered from snapshots right after these are made
        for path in (checkout.root / "packer/images").glob("*.yml"):
            if path.stem != IMAGE:
                path.unlink()
        self.define()
        self.bills: dict[date, dict[str, float]] = {}
        self.stated: list[dict[str, Any]] = []

    def define(self) -> None:
        self.checkout.define(
            f"publish: {{regions: [{REGION}], keep_last: 1, launch_template: "
            "{instance_type: c7i.large}}\n"
        )

    def go_to(self, number: int) -> Week:
        """The Tuesday after the `number`th week from now on; returns that week."""
        monday = Week.before(REAL_NOW()).monday + timedelta(weeks=number + 1)
        tuesday = datetime.combine(
            monday + timedelta(days=1), datetime.min.time(), REAL_NOW().tzinfo
        )
        self.calendar.days = (tuesday + timedelta(hours=6) - REAL_NOW()) / timedelta(days=1)
        return Week.before(clock.now())

    def spend(self, week: Week, services: Mapping[str, float]) -> None:
        for day in range(7):
            self.bills[week.monday + timedelta(days=day)] = dict(services)

    def state(self, **answers: list[dict[str, Any]] | dict[str, Any]) -> None:
        """What Cost Explorer and others answer from now on, beside the bill: `call=answer`, with
        `__` for the colon."""
        stated = [
            {"call": name.replace("__", ":"), "answer": answer} for name, answer in answers.items()
        ]
        since = Week.before(clock.now()).back(WEEKS - 1).monday
        bill = [
            {
                "call": "ce:GetCostAndUsage",
                "asked": {"Metrics": ["AmortizedCost"]},
                "answer": {
                    "ResultsByTime": [
                        {
                            "TimePeriod": {"Start": day.isoformat(), "End": day.isoformat()},
                            "Groups": [
                                {
                                    "Keys": [service],
                                    "Metrics": {
                                        "AmortizedCost": {"Amount": str(usd), "Unit": "USD"}
                                    },
                                }
                                for service, usd in services.items()
                            ],
                        }
                        for day, services in sorted(self.bills.items())
                        if day >= since
                    ]
                },
            }
        ]
        self.aws.set(answers=stated + bill)

    def digest(self, *args: str, code: int = 0) -> str:
        return self.checkout.run("digest", *args, code=code)


def send(
    name: str,
    instance: str,
    begin: datetime,
    hours: int,
    value: float,
    kind: str = "g5.xlarge",
    /,
    **dimensions: str,
) -> None:
    """What a machine's agent sends of one metric in so many hours: 360 samples in each."""
    own = {"InstanceId": instance, "InstanceType": kind, "ImageId": "ami-1", **dimensions}
    rows = [
        {
            "MetricName": name,
            "Timestamp": begin + timedelta(hours=hour, minutes=30),
            "Dimensions": [{"Name": key, "Value": text} for key, text in own.items()],
            "StatisticValues": {
                "SampleCount": 360,
                "Sum": 360 * value,
                "Minimum": value,
                "Maximum": value,
            },
        }
        for hour in range(hours)
    ]
    boto3.client("cloudwatch", REGION).put_metric_data(Namespace=metrics.NAMESPACE, MetricData=rows)


def under_policy(stage: Any) -> None:
    """The first digest of an account, under the policy of the command: with a build, an idle
    machine and a reservation; another machine has sent what is known of a build."""
    stage.checkout.define("publish: {regions: [us-east-1]}\n")
    stage.build(1)
    stage.golden("publish", IMAGE)
    boto3.client("dynamodb", REGION).delete_table(TableName="golden-ami")
    s3, bucket = boto3.client("s3", REGION), BUCKET.rpartition(":")[2]
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=f"site/{IMAGE}/0123456789ab/cve.json", Body=b"{}")
    send(metrics.IDLE, "i-1", clock.now() - timedelta(days=10), 1, 1.0)
    moment = clock.now().isoformat()
    stage.aws.answer(
        "ec2:DescribeReservedInstances",
        REGION,
        ReservedInstances=[
            {
                "ReservedInstancesId": "r",
                "InstanceType": "g5.xlarge",
                "InstanceCount": 1,
                "OfferingClass": "convertible",
                "Start": moment,
                "End": moment,
            }
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(notify.TOPIC, Topic().arn)
        patch.setenv("GOLDEN_SITE_S3", f"s3://{bucket}/site")
        stage.under_policy("digest")
