"""Telling people: an SNS topic, and a Slack-compatible webhook, which takes JSON with a `text`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from goldenami.aws.session import Account, Client, translated
from goldenami.core.errors import BadInput, GoldenError
from goldenami.packages import http_documents

WEBHOOK = "GOLDEN_WEBHOOK"
"""Environment variable with the webhook's address, which is a secret."""
TOPIC = "GOLDEN_SNS_TOPIC"
"""Environment variable with the ARN of an SNS topic; the region is part of it."""
TEXT_LIMIT = 39_000
"""Characters of a text: Slack cuts at 40,000 (its documentation of chat.postMessage and
webhooks)."""
SUBJECT_LIMIT = 99
"""Characters of a subject, in ASCII and on one line (SNS API reference, Publish: fewer than
100)."""
_PLAIN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""What Slack would take for a mention or a link ("Formatting text for messages")."""
MESSAGE_LIMIT = 256 * 1024
"""Bytes of a message (SNS API reference, Publish)."""


def tell(account: Account, headline: str, summary: str) -> list[GoldenError]:
    """Tell the topic and the webhook that the environment names; returns why one was not told."""
    untold = list[GoldenError]()
    for send in channels(account).values():
        try:
            send(headline, summary)
        except GoldenError as error:
            untold.append(error)
    return untold


def channels(account: Account) -> dict[str, Callable[[str, str], None]]:
    """What sends a headline and a text to each place that the environment names, by variable."""
    check()
    known: dict[str, Callable[..., None]] = {
        TOPIC: partial(_to_topic, account),
        WEBHOOK: to_webhook,
    }
    return {
        variable: partial(send, target)
        for variable, send in known.items()
        if (target := os.environ.get(variable))
    }


def check() -> None:
    """BadInput for an address in the environment that nothing can be sent to: known before there
    is news."""
    topic, webhook = os.environ.get(TOPIC), urlsplit(os.environ.get(WEBHOOK, ""))
    if topic and not region(topic):
        raise BadInput(f"{TOPIC} is no ARN of an SNS topic", hint="arn:aws:sns:REGION:ACCOUNT:NAME")
    if any(webhook) and not (webhook.scheme in ("http", "https") and webhook.hostname):
        raise BadInput(f"{WEBHOOK} is no address of a webhook", hint="https://HOST/PATH")


def _to_topic(account: Account, topic: str, headline: str, body: str) -> None:
    publish(account.client("sns", region(topic)), topic, f"golden images: {headline}", body)


def to_webhook(url: str, headline: str, body: str) -> None:
    """Post both as one message; Unreachable without the address in its text."""
    text = f"*{headline}*\n{body}".translate(_PLAIN)
    if len(text) > TEXT_LIMIT:
        text = text[:TEXT_LIMIT] + "\n(shortened)"
    http_documents.post(url, {"text": text}, name=f"the webhook of {WEBHOOK}")


def region(topic: str) -> str:
    """The region of a topic's ARN, arn:aws:sns:REGION:ACCOUNT:NAME, or nothing."""
    parts = topic.split(":")
    return parts[3] if len(parts) == 6 and parts[2] == "sns" else ""


def publish(sns: Client, topic: str, subject: str, message: str) -> str:
    """Send `message` to the topic; returns the message's id. Too long a message ends in a note."""
    line = " ".join(subject.encode("ascii", "replace").decode().split())[:SUBJECT_LIMIT]
    with translated():
        return str(
            sns.publish(TopicArn=topic, Subject=line, Message=shortened(message))["MessageId"]
        )


def shortened(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """`message` in at most `limit` bytes of UTF-8, never within a character."""
    note = "\n\n(shortened)"
    data = message.encode()
    if len(data) <= limit:
        return message
    return data[: limit - len(note)].decode(errors="ignore") + note
