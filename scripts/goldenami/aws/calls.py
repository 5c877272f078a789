"""Helpers for calls to AWS: pages, batches, tolerated errors, and waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from botocore.exceptions import ClientError

from goldenami.aws.refusals import SETTLE_S
from goldenami.aws.session import Client, code
from goldenami.core.terminal.progress import LongWait
from goldenami.core.wait import wait_until

T = TypeVar("T")

NOT_YET = (".NotFound",)
"""Suffix of EC2's error codes for an unknown id, which may have been created a moment ago."""
SETTLE_POLLS_S = (0.5, 1, 2, 4, 8)
FILTER_VALUES = 200
"""Most values that one filter of EC2 takes (EC2 API reference, "Filtering using the API")."""


def pages(
    client: Client, call: str, key: str, size: int | None = None, **arguments: Any
) -> Iterator[Any]:
    """Yield the items under `key` from every page of a call, with `size` items a page if given."""
    config = {"PaginationConfig": {"PageSize": size}} if size else {}
    for page in client.get_paginator(call).paginate(**config, **arguments):
        yield from page[key]


def batches(names: Sequence[str], size: int = FILTER_VALUES) -> Iterator[list[str]]:
    """Split `names` into lists of at most `size`."""
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


@contextmanager
def tolerate(*codes: str) -> Iterator[None]:
    """Suppress a ClientError whose code ends in one of `codes`. It ends the block."""
    try:
        yield
    except ClientError as error:
        if not code(error).endswith(codes):
            raise


def refused(call: Callable[[], object], *codes: str) -> tuple[str, str]:
    """Make a call, and return the code and the text with which AWS refuses it, or two empty ones.
    If `codes` are given, an error whose code ends in none of them is raised."""
    try:
        call()
    except ClientError as error:
        if codes and not code(error).endswith(codes):
            raise
        return code(error), str(error.response["Error"].get("Message", ""))
    return "", ""


def wait_for(
    ask: Callable[[], T],
    *codes: str,
    limit_s: float | None = None,
    pauses: float | Iterable[float] = SETTLE_POLLS_S,
    what: str = "",
) -> T:
    """Call `ask` until it returns something other than None; return None after `limit_s` seconds.

    An error whose code ends in one of `codes` counts as no answer yet. If the last try ended in
    such an error, it is raised at the limit. `limit_s` is SETTLE_S by default, in which EC2 shows a
    change. `ask` must be safe to repeat. In a long wait the user is shown `what`, or the error if
    `what` is "".
    """

    def passes(error: Exception) -> bool:
        return isinstance(error, ClientError) and code(error).endswith(codes)

    if limit_s is None:
        limit_s = SETTLE_S
    notice = (what or None) if codes else what
    return wait_while(ask, passes, limit_s=limit_s, pauses=pauses, what=notice)


def wait_while(
    ask: Callable[[], T],
    passes: Callable[[Exception], bool],
    *,
    limit_s: float,
    pauses: float | Iterable[float],
    what: str | None = "",
) -> T:
    """Wait as `wait_for` does. An error for which `passes` returns True counts as no answer yet. In
    a long wait the user is shown `what`, or the error if `what` is None."""
    refusals, wait = list[Exception](), LongWait()

    def answer() -> T | None:
        # Only the last try counts: an earlier refusal has passed if this try is answered by None.
        refusals.clear()
        try:
            result = ask()
        except Exception as error:
            if not passes(error):
                raise
            refusals.append(error)
            result = None
        notice = what
        if notice is None:
            notice = str(*refusals)
        if result is None and notice:
            wait.tell(notice)
        return result

    result = wait_until(answer, limit_s, pauses)
    if refusals:
        raise refusals[0]
    return cast(T, result)
