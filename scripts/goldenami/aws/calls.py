"""How AWS is called: answers in pages, questions in batches, errors that do not matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from goldenami.aws.session import Client, code

FILTER_VALUES = 200
"""Values that one filter of EC2 takes (EC2 API reference, "Filtering using the API")."""


def pages(client: Client, call: str, key: str, size: int | None = None, **arguments: Any) -> Iterator[Any]:
    """The things below `key` in every page of a call; `size` of them in a page, or as many as AWS chooses."""
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
