"""One message to an SNS topic."""

from __future__ import annotations

from goldenami.aws.session import Client, translated

SUBJECT_LIMIT = 99
"""Characters of a subject, in ASCII and on one line (SNS API reference, Publish: fewer than 100)."""
MESSAGE_LIMIT = 256 * 1024
"""Bytes of a message (SNS API reference, Publish)."""


def publish(sns: Client, topic: str, subject: str, message: str) -> str:
    """Send `message` to the topic with that ARN; returns the message's id. Too long a message ends in a note."""
    line = " ".join(subject.encode("ascii", "replace").decode().split())[:SUBJECT_LIMIT]
    with translated():
        return str(sns.publish(TopicArn=topic, Subject=line, Message=shortened(message))["MessageId"])


def shortened(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """`message` in at most `limit` bytes of UTF-8, never within a character."""
    note = "\n\n(shortened)"
    data = message.encode()
    if len(data) <= limit:
        return message
    return data[:limit - len(note)].decode(errors="ignore") + note
