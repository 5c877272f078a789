"""Telling others what `watch` found: an SNS topic, and a Slack-compatible webhook, which takes JSON with a `text`."""

from __future__ import annotations

import os
from functools import partial

from goldenami.aws import notify
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput, GoldenError
from goldenami.model.update_policy import UpdateVerdict
from goldenami.packages import http_documents
from goldenami.watch import watch_summary
from goldenami.watch.watch_records import WatchRecord

WEBHOOK = "GOLDEN_WEBHOOK"
"""Environment variable with the webhook's address, which is a secret."""
TOPIC = "GOLDEN_SNS_TOPIC"
"""Environment variable with the ARN of an SNS topic; the region is part of it."""
TEXT_LIMIT = 39_000
"""Characters of a text: Slack cuts at 40,000 (its documentation of chat.postMessage and webhooks)."""


def tell(record: WatchRecord, summary: str, account: Account) -> list[GoldenError]:
    """Tell the topic and the webhook that the environment names, unless there is nothing to tell; who was not told."""
    quiet = not record.errors and not record.warnings and not record.changes and all(
        row.verdict in (UpdateVerdict.CURRENT, UpdateVerdict.HELD) for row in record.rows)
    if quiet:
        return []
    headline, untold = watch_summary.headline(record), list[GoldenError]()
    for variable, send in ((TOPIC, partial(_to_topic, account)), (WEBHOOK, to_webhook)):
        try:
            if target := os.environ.get(variable):
                send(target, headline, summary)
        except GoldenError as error:
            untold.append(error)
    return untold


def _to_topic(account: Account, topic: str, headline: str, body: str) -> None:
    where = region(topic)
    if not where:
        raise BadInput(f"{TOPIC} is no ARN of an SNS topic", hint="arn:aws:sns:REGION:ACCOUNT:NAME")
    notify.publish(account.client("sns", where), topic, f"golden images: {headline}", body)


def to_webhook(url: str, headline: str, body: str) -> None:
    """Post both as one message; Unreachable without the address in its text."""
    text = f"*{headline}*\n{body}"
    if len(text) > TEXT_LIMIT:
        text = text[:TEXT_LIMIT] + "\n(shortened)"
    http_documents.post(url, {"text": text}, name=f"the webhook of {WEBHOOK}")


def region(topic: str) -> str:
    """The region of a topic's ARN: arn:aws:sns:REGION:ACCOUNT:NAME. Empty where it is no ARN of a topic."""
    parts = topic.split(":")
    return parts[3] if len(parts) == 6 and parts[2] == "sns" else ""
