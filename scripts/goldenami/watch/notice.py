"""A message to a Slack-compatible webhook, whose address is a secret of the environment: JSON with a `text`."""

from __future__ import annotations

from goldenami.packages import http_documents

WEBHOOK = "GOLDEN_WEBHOOK"
"""Environment variable with the webhook's address."""
TOPIC = "GOLDEN_SNS_TOPIC"
"""Environment variable with the ARN of an SNS topic; the region is part of it."""
TEXT_LIMIT = 39_000
"""Characters of a text: Slack cuts at 40,000 (its documentation of chat.postMessage and webhooks)."""


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
