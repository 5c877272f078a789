"""What `watch` asks EC2 and tells SNS, against the emulator."""

from __future__ import annotations

import json

import boto3
from goldenami.aws import notify
from support.aws.emulator import Emulator


def test_a_topic_is_told(aws: Emulator) -> None:
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name="golden")["TopicArn"]
    queue = sqs.create_queue(QueueName="golden")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    notify.publish(sns, topic, "golden images: nouveau für\nalle " + "x" * 200, "body\n" * 100_000)
    message = json.loads(sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"])
    assert message["Subject"].startswith("golden images: nouveau f?r alle xxx")
    assert len(message["Subject"]) == notify.SUBJECT_LIMIT
    assert len(message["Message"].encode()) <= notify.MESSAGE_LIMIT
    assert message["Message"].endswith("(shortened)")
