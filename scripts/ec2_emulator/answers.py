"""What many handlers need: pages, filters, remembered client tokens, tags."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from moto.core.exceptions import ServiceException

from ec2_emulator.rules import EC2_API, rule
from ec2_emulator.world import WORLD

T = TypeVar("T")


class Refusal(ServiceException):
    """An error with code and message; `status` where AWS answers another one than 400 and no model says so."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


def wrong(message: str) -> Refusal:
    """EC2's refusal of a parameter."""
    return Refusal("InvalidParameterValue", message)


@rule(EC2_API + "Query-Requests.html#api-pagination")
def page(items: Sequence[T], limit: int | None, token: str | None, *, least: int = 1, most: int = 1000, start: int = 0,
         bad_token: Callable[[str], Refusal] = wrong) -> tuple[Sequence[T], str | None]:
    """A list call returns at most MaxResults items and a token for the rest; a foreign token is refused."""
    if limit is not None and limit < least:
        raise wrong(f"Value ( {limit} ) for parameter maxResults is invalid. Expecting a value of at least {least}.")
    if token:
        try:
            start = int(base64.b64decode(token, validate=True).removeprefix(b"page:"))
        except (ValueError, binascii.Error):
            raise bad_token(f"The token '{token}' is invalid") from None
    end = start + min(limit or most, most, WORLD.settings.page_most)
    more = base64.b64encode(f"page:{end}".encode()).decode() if end < len(items) else None
    return items[start:end], more


def pattern(text: str) -> re.Pattern[str]:
    """EC2's wildcards: `*` for any characters, `?` for one, a backslash before either for itself."""
    parts = re.findall(r"\\.|.", text, re.DOTALL)
    return re.compile("".join({"*": ".*", "?": "."}.get(part, re.escape(part[-1])) for part in parts), re.DOTALL)


def select(items: Sequence[T], filters: Mapping[str, Sequence[str]],
           value: Callable[[T, str], Sequence[str]]) -> list[T]:
    """Items for which every filter has a value that matches one of its patterns; `value` refuses unknown names."""
    wanted = {name: [pattern(text) for text in texts] for name, texts in filters.items()}
    return [item for item in items if all(
        any(found.fullmatch(text) for text in value(item, name) for found in patterns)
        for name, patterns in wanted.items())]


def filters_of(given: Sequence[Mapping[str, Any]] | None) -> dict[str, list[str]]:
    """The `Filters` parameter as name to values."""
    return {each["Name"]: list(each.get("Values", [])) for each in given or []}


def tag_value(tags: Mapping[str, str], name: str) -> list[str] | None:
    """The values of a filter about tags; None where `name` is another filter."""
    if name.startswith("tag:"):
        return [tags[name[4:]]] if name[4:] in tags else []
    return {"tag-key": list(tags), "tag-value": list(tags.values())}.get(name)


def once(scope: tuple[str, ...], token: str | None, request: object, make: Callable[[], T],
         conflict: Refusal) -> T:
    """Idempotency: the first result again for the same token and request; `conflict` for another request."""
    if not token:
        return make()
    said = json.dumps(request, sort_keys=True, default=str)
    key = (*scope, token)
    if key in WORLD.tokens:
        before, result = WORLD.tokens[key]
        if before != said:
            raise conflict
        return result  # type: ignore[no-any-return]
    result = make()
    WORLD.tokens[key] = (said, result)
    return result


def tags_for(resource: str, specifications: Sequence[Mapping[str, Any]], allowed: Sequence[str]) -> dict[str, str]:
    """The tags that `TagSpecifications` give a type of resource; another type than `allowed` is refused."""
    for each in specifications:
        if each.get("ResourceType") not in allowed:
            raise wrong(f"'{each.get('ResourceType')}' is not a valid taggable resource type for this operation.")
    return {tag["Key"]: tag.get("Value", "") for each in specifications if each["ResourceType"] == resource
            for tag in each.get("Tags", [])}
