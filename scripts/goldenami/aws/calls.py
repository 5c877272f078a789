"""How AWS is called: answers in pages, questions in batches, errors that do not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from goldenami.aws.session import Client, code
from goldenami.core.wait import wait_until

T = TypeVar("T")

NOT_YET = (".NotFound",)
"""The end of EC2's code for what it does not know, which may have been made a moment ago."""
SETTLE_S = 120.0
"""Seconds for which EC2 may not show what was changed ("Eventual consistency in the Amazon EC2
API": "wait time starts with a couple of seconds and increases gradually up to about five minutes";
snapshots and AMIs take seconds)."""
SETTLE_POLLS_S = (0.5, 1, 2, 4, 8)
FILTER_VALUES = 200
"""Values that one filter of EC2 takes (EC2 API reference, "Filtering using the API")."""


def pages(
    client: Client, call: str, key: str, size: int | None = None, **arguments: Any
) -> Iterator[Any]:
    """The things below `key` in every page of a call; `size` of them in a page, or as many as AWS
    chooses."""
    config = {"PaginationConfig": {"PageSize": size}} if size else {}
    for page in client.get_paginator(call).paginate(**config, **arguments):
        yield from page[key]


def batches(names: Sequence[str], size: int = FILTER_VALUES) -> Iterator[list[str]]:
    """`names` in lists of at most `size`."""
    for start in range(0, len(names), size):
        yield list(names[start:start + size])


@contextmanager
def tolerate(*codes: str) -> Iterator[None]:
    """Within it, an error whose code ends in one of `codes` ends the block and nothing more."""
    try:
        yield
    except ClientError as error:
        if not code(error).endswith(codes):
            raise


def settled(call: Callable[[], T], *codes: str, limit_s: float | None = None) -> T:
    """What `call` returns, tried again while it is refused with a code that ends in one of `codes`.

    For what follows a change that EC2 may not show yet (SETTLE_S), or what waits for others
    (`limit_s`); `call` has to bear being made again.
    """
    def once() -> tuple[T] | None:
        with tolerate(*codes):
            return (call(),)
        return None

    answer = wait_until(once, SETTLE_S if limit_s is None else limit_s, SETTLE_POLLS_S)
    return answer[0] if answer else call()
