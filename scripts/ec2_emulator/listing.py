"""Pages and filters of list calls."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from moto.core.responses import ActionResult, BaseResponse

from ec2_emulator.rules import ApiError, invalid_parameter, rule
from ec2_emulator.state import STATE

T = TypeVar("T")


@rule
def paginate(
    items: Sequence[T],
    limit: int | None,
    token: str | None,
    *,
    most: int = 1000,
    bad_token: Callable[[str], ApiError] = invalid_parameter,
) -> tuple[Sequence[T], str | None]:
    """A list call returns at most MaxResults items and a token for the rest; a foreign token is
    refused."""
    _check_limit(limit, 1)
    start = 0
    if token:
        try:
            # The prefix distinguishes this emulator's tokens from other Base64.
            start = int(base64.b64decode(token, validate=True).removeprefix(b"page:"))
        except (ValueError, binascii.Error):
            raise bad_token(f"The token '{token}' is invalid") from None
    end = start + min(limit or most, most, STATE.settings.page_most)
    next_token = base64.b64encode(f"page:{end}".encode()).decode() if end < len(items) else None
    return items[start:end], next_token


def _check_limit(limit: int | None, least: int) -> None:
    """Raise EC2's refusal if MaxResults is less than `least`
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html#api-pagination)."""
    if limit is not None and limit < least:
        raise invalid_parameter(
            f"Value ( {limit} ) for parameter maxResults is invalid. Expecting a value of at "
            f"least {least}."
        )


def answer(
    api: BaseResponse,
    name: str,
    items: Iterable[Mapping[str, Any]],
    *,
    least: int = 1,
    most: int = 1000,
) -> ActionResult:
    """Return the page of `items` that the request asks for, as the list `name`."""
    limit, token = api._get_param("MaxResults"), api._get_param("NextToken")
    _check_limit(limit, least)
    page, following = paginate(list(items), limit, token, most=most)
    return ActionResult({name: page, "NextToken": following})


def wildcard(text: str) -> re.Pattern[str]:
    """Return a pattern for EC2's wildcards: `*` for any characters, `?` for one, a backslash before
    either for itself."""
    parts = re.findall(r"\\.|.", text, re.DOTALL)
    return re.compile(
        "".join({"*": ".*", "?": "."}.get(part, re.escape(part[-1])) for part in parts), re.DOTALL
    )


def select(
    items: Sequence[T],
    filters: Mapping[str, Sequence[str]],
    value: Callable[[T, str], Sequence[str]],
) -> list[T]:
    """Return the items that match one pattern of every filter. `value` returns an item's values for
    a filter's name, and refuses unknown names."""
    patterns = {name: [wildcard(text) for text in texts] for name, texts in filters.items()}
    return [
        item
        for item in items
        if all(
            any(pattern.fullmatch(text) for text in value(item, name) for pattern in alternatives)
            for name, alternatives in patterns.items()
        )
    ]


def filters_of(filters: Sequence[Mapping[str, Any]] | None) -> dict[str, list[str]]:
    """Return the `Filters` parameter as a mapping of names to values."""
    return {entry["Name"]: list(entry.get("Values", [])) for entry in filters or []}


def tag_values(tags: Mapping[str, str], name: str) -> list[str] | None:
    """Return the values for a filter by tags, or None if `name` is another filter."""
    if name.startswith("tag:"):
        return [tags[name[4:]]] if name[4:] in tags else []
    return {"tag-key": list(tags), "tag-value": list(tags.values())}.get(name)
