"""Notices to people: by an SNS topic, and by a Slack-compatible webhook (JSON with a `text`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlsplit

from goldenami.aws.session import Account, Client, translated
from goldenami.core.errors import BadInput, GoldenError
from goldenami.packages import http_documents

WEBHOOK = "GOLDEN_WEBHOOK"
"""Environment variable with the webhook's URL, which is a secret."""
TOPIC = "GOLDEN_SNS_TOPIC"
"""Environment variable with the ARN of an SNS topic, which contains the region."""
TEXT_LIMIT = 39_000
"""Most characters of a text: Slack cuts at 40,000 (its documentation of chat.postMessage and
webhooks)."""
SUBJECT_LIMIT = 99
"""Most characters of a subject, which is ASCII on one line (SNS API reference, Publish: fewer than
100)."""
_PLAIN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""Escapes for the characters that begin a mention or a link in Slack ("Formatting text for
messages")."""
MESSAGE_LIMIT = 256 * 1024
"""Most bytes of a message (SNS API reference, Publish)."""
Channels = Mapping[str, Callable[[str, str], None]]
"""Functions that send a headline and a text, by the variable that names their recipient."""


def tell(account: Account, headline: str, summary: str) -> list[GoldenError]:
    """Send a notice to the topic and the webhook that the environment names. Return the errors of
    those that did not get it."""
    return send(channels(account), headline, summary)


def send(recipients: Channels, headline: str, text: str) -> list[GoldenError]:
    """Send a notice to all recipients. Return the errors of those that did not get it."""
    errors = list[GoldenError]()
    for send_to in recipients.values():
        try:
            send_to(headline, text)
        except GoldenError as error:
            errors.append(error)
    return errors


def channels(account: Account) -> Channels:
    """The channels that the environment names."""
    check()
    senders: dict[str, Callable[..., None]] = {
        TOPIC: partial(_to_topic, account),
        WEBHOOK: to_webhook,
    }
    return {
        variable: partial(sender, target)
        for variable, sender in senders.items()
        if (target := os.environ.get(variable))
    }


def check() -> None:
    """Raise BadInput for a topic or webhook in the environment that cannot be an address. Call it
    early, so that a mistake shows before there is news to send."""
    topic, webhook = os.environ.get(TOPIC), urlsplit(os.environ.get(WEBHOOK, ""))
    if topic and not region(topic):
        raise BadInput(f"{TOPIC} is no ARN of an SNS topic", hint="arn:aws:sns:REGION:ACCOUNT:NAME")
    if any(webhook) and not (webhook.scheme in ("http", "https") and webhook.hostname):
        raise BadInput(f"{WEBHOOK} is no address of a webhook", hint="https://HOST/PATH")


def _to_topic(account: Account, topic: str, headline: str, body: str) -> None:
    publish(account.client("sns", region(topic)), topic, f"golden images: {headline}", body)


def to_webhook(url: str, headline: str, body: str) -> None:
    """Post headline and body as one message. The URL, a secret, is not in the error's text."""
    text = f"*{headline}*\n{body}".translate(_PLAIN)
    if len(text) > TEXT_LIMIT:
        text = text[:TEXT_LIMIT] + "\n(shortened)"
    # Errors say `name` instead of the URL, which is a secret.
    http_documents.post(url, {"text": text}, name=f"the webhook of {WEBHOOK}")


def region(topic: str) -> str:
    """The region in a topic's ARN, arn:aws:sns:REGION:ACCOUNT:NAME, or "" if it is no such ARN."""
    parts = topic.split(":")
    return parts[3] if len(parts) == 6 and parts[2] == "sns" else ""


def publish(sns: Client, topic: str, subject: str, message: str) -> str:
    """Send `message` to the topic and return its id. A message that is too long is cut."""
    line = " ".join(subject.encode("ascii", "replace").decode().split())[:SUBJECT_LIMIT]
    with translated():
        return str(
            sns.publish(TopicArn=topic, Subject=line, Message=shortened(message))["MessageId"]
        )


def shortened(message: str) -> str:
    """Cut `message` to at most MESSAGE_LIMIT bytes of UTF-8, at a character's boundary, with a
    note."""
    note = "\n\n(shortened)"
    data = message.encode()
    if len(data) <= MESSAGE_LIMIT:
        return message
    # The cut may be within a character: `ignore` drops what is left of it.
    return data[: MESSAGE_LIMIT - len(note)].decode(errors="ignore") + note
