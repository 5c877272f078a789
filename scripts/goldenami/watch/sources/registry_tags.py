"""Images of containers that a lock has: what their registries say of the same names today."""

from __future__ import annotations

from goldenami.core import records
from goldenami.core.errors import GoldenError
from goldenami.model.definitions.update_policy import Judgement, UpdateVerdict
from goldenami.packages import registries
from goldenami.packages.registries import LockedContainer
from goldenami.watch.watch_records import SourceStatus

BY_TAG, BY_HAND = "by tag", "by hand"
"""What moves an image: its vendor, who moves the tag; a person, who writes another digest."""


def look(container: LockedContainer) -> tuple[SourceStatus, str, Judgement]:
    """How the registry answered, what moves the image, and whether it has moved."""
    locked = container.answer[:12]
    policy = BY_HAND if "@" in container.asked else BY_TAG
    try:
        now = records.sha256_text(registries.answer(container.asked, container.login))[:12]
    except GoldenError as error:
        return (SourceStatus(name=container.asked, error=error.message), policy,
                Judgement("?", UpdateVerdict.UNREACHABLE, error.message))
    verdict = UpdateVerdict.CURRENT if now == locked else UpdateVerdict.UPDATE
    return SourceStatus(name=container.asked), policy, Judgement(now, verdict)
