"""An SNS topic of the emulated account, and what arrived at it."""

from __future__ import annotations

import json
from typing import Any

import boto3

from support.idle.machine import REGION


class Topic:
    """The one that the account's roles may tell, or machines (`golden-idle`); a queue is its
    subscriber."""

    def __init__(self, name: str = "golden-ami") -> None:
        sns, self._sqs = boto3.client("sns", REGION), boto3.client("sqs", REGION)
        self.arn = sns.create_topic(Name=name)["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="ops")["QueueUrl"]
        known = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])[
            "Attributes"
        ]
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=known["QueueArn"])

    def messages(self) -> list[dict[str, Any]]:
        """Those since the last look."""
        found = list[dict[str, Any]]()
        while rows := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for row in rows:
                found.append(json.loads(row["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=row["ReceiptHandle"])
        return found

    def texts(self) -> list[str]:
        """Their texts alone."""
        return [each["Message"] for each in self.messages()]
