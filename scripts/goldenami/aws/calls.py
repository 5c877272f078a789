"""How AWS is called: answers in pages, questions in batches, errors that do not matter."""

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
"""The end of EC2's code for what it does not know, which may have been made a moment ago."""
SETTLE_POLLS_S = (0.5, 1, 2, 4, 8)
FILTER_VALUES = 200
"""Values that one filter of EC2 takes (EC2 API reference, "Filtering using the API")."""


def pages(
    client: Client, call: str, key: str, size: int | None = None, **arguments: Any
) -> Iterator[Any]:
    """The things below `key` in every page of a call; `size` of them in a page."""
    config = {"PaginationConfig": {"PageSize": size}} if size else {}
    for page in client.get_paginator(call).paginate(**config, **arguments):
        yield from page[key]


def batches(names: Sequence[str], size: int = FILTER_VALUES) -> Iterator[list[str]]:
    """`names` in lists of at most `size`."""
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


@contextmanager
def tolerate(*codes: str) -> Iterator[None]:
    """An error whose code ends in one of `codes` ends the block and nothing more."""
    try:
        yield
    except ClientError as error:
        if not code(error).endswith(codes):
            raise


def wait_for(
    ask: Callable[[], T],
    *codes: str,
    limit_s: float | None = None,
    pauses: float | Iterable[float] = SETTLE_POLLS_S,
    passes: Callable[[Exception], bool] | None = None,
    what: str = "",
) -> T:
    """The first answer of AWS that is not None; None where there is none in `limit_s` seconds.

    A refusal whose code ends in one of `codes`, or of which `passes` says that it will pass, is no
    answer yet; the last one is raised at the limit. By default it waits for what EC2 may not show
    yet (SETTLE_S). `ask` has to bear being made again. `what` a person is told of a long wait;
    without it, the refusal.
    """
    refusals, wait = list[Exception](), LongWait()

    def answer() -> T | None:
        refusals.clear()
        try:
            found = ask()
        except Exception as error:
            named = isinstance(error, ClientError) and code(error).endswith(codes)
            if not (named or (passes and passes(error))):
                raise
            refusals.append(error)
            found = None
        if found is None and (told := what or (str(*refusals) if codes else "")):
            wait.tell(told)
        return found

    found = wait_until(answer, SETTLE_S if limit_s is None else limit_s, pauses)
    if refusals:
        raise refusals[0]
    return cast(T, found)
