"""The same work in many regions in parallel, and one error for all that failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from goldenami.aws.calls import wait_while
from goldenami.aws.error_kinds import UnknownCredentials
from goldenami.aws.session import translate
from goldenami.core.errors import GoldenError, HostNotReady, StageFailed, Unreachable
from goldenami.core.wait import growing
from goldenami.core.worker_pool import WorkerPool

T = TypeVar("T")

FORWARD_S, BACK_S = 60.0, 300.0
"""Seconds for which a move, and then its undoing, is retried if AWS throttles or does not answer.
"""
AGAIN_S = (0.5, 2, 8.0)
"""Pauses between two tries in seconds: the first, the growth factor, the longest."""


@dataclass(frozen=True)
class RegionResults(Generic[T]):
    """Each region's result, in `done`, or its error, in `failed`; never both."""

    done: dict[str, T]
    failed: dict[str, GoldenError]

    @property
    def causes(self) -> dict[str, str]:
        return {region: error.message for region, error in self.failed.items()}

    def require_all(
        self, what: str = "nothing is changed", hint: str = "then run again"
    ) -> dict[str, T]:
        """Return all results. If a region failed, raise one error that names the failed regions,
        their causes, and the regions that are done."""
        if not self.failed:
            return self.done
        raise combined_error(self.failed, what, hint, dict.fromkeys(self.done, "done"))


def for_each_region(
    regions: Iterable[str],
    work: Callable[[str], T],
    *,
    again_s: float = 0.0,
) -> RegionResults[T]:
    """Call `work` with every region in parallel. An error in one region does not stop the others;
    an exception that is no error of AWS's or ours is a defect and is raised.

    `work` is repeated for `again_s` seconds if AWS throttles or does not answer, so it must be safe
    to repeat after it was done in full or in part. Code that only reads should use
    `Account.with_short_timeouts`, which gives up a region that hangs. An interrupt does not wait
    for calls in progress; they end with the process.
    """
    names = list(regions)
    done: dict[str, T] = {}
    errors: dict[str, Exception] = {}

    def keep_outcome(region: str) -> None:
        try:
            # In a tuple, because `wait_while` takes None for no answer yet.
            (done[region],) = wait_while(
                lambda: (work(region),),
                lambda error: isinstance(translate(error, region), Unreachable),
                limit_s=again_s,
                pauses=growing(*AGAIN_S),
            )
        except Exception as error:  # raised below, when all have ended
            errors[region] = error

    WorkerPool(len(names)).run(names, keep_outcome)
    # translate raises an exception that is no error of AWS's or ours
    failed = {region: translate(errors[region], region) for region in names if region in errors}
    # A region that the account has not enabled answers as if it did not know the credentials.
    for region, error in failed.items():
        if done and isinstance(error, UnknownCredentials):
            failed[region] = HostNotReady(
                f"the account has not enabled {region}: it refuses the credentials that "
                f"{next(name for name in names if name in done)} takes",
                hint="enable it (account settings, AWS Regions), or take it out of the definition",
            )
    return RegionResults({region: done[region] for region in names if region in done}, failed)


def in_parallel(questions: Mapping[str, Callable[[], T]]) -> RegionResults[T]:
    """Call all `questions`, of regions or of the whole account, in parallel. Results and errors are
    keyed by the questions' names."""
    return for_each_region(questions, lambda name: questions[name]())


def all_or_none(
    regions: Iterable[str],
    forward: Callable[[str], T],
    back: Callable[[str], None],
    hint: str,
) -> dict[str, T]:
    """Call `forward` in every region. If it fails in one, call `back` in all, so that none has
    moved, and raise an error.

    `back` must cope with a region in which `forward` did nothing or half of its work. If `back`
    fails too, the error says so.
    """
    names = list(regions)
    moved = for_each_region(names, forward, again_s=FORWARD_S)
    if not moved.failed:
        return moved.done
    # Longer than forward: pointers that have moved in some regions only are worth the patience.
    undone = for_each_region(names, back, again_s=BACK_S)
    state = {
        **dict.fromkeys(names, "is as it was"),
        **{f"{region}, back": error.message for region, error in undone.failed.items()},
    }
    what = "no pointer has moved"
    if undone.failed:
        what = f"pointers may have moved in {', '.join(undone.failed)} and nowhere else"
    raise combined_error(
        moved.failed,
        what,
        hint,
        {name: text for name, text in state.items() if name not in undone.failed},
    )


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """A plan for the regions that answered, and the errors of the others."""

    plan: T
    unreachable: dict[str, GoldenError]

    def check(self, refused: Mapping[str, list[GoldenError]], what: str, hint: str) -> None:
        """Raise one error if regions could not be read or actions were refused."""
        # A region that could not be read is not an empty one, and must not end as a success.
        first, further = dict(self.unreachable), dict[str, str]()
        for region, errors in refused.items():
            for number, error in enumerate(errors):
                if number == 0:
                    first[region] = error
                else:
                    further[f"{region}+{number}"] = error.message
        if first:
            raise combined_error(first, what, hint, further)


_AGAIN = re.compile(r"[;,]? (then )?run again(: it continues)?$")


def combined_error(
    failed: Mapping[str, GoldenError], what: str, hint: str, state: Mapping[str, str]
) -> GoldenError:
    """Combine the errors of several regions into one: the exit code that all share (else 5), a line
    for each region, and the first two remedies."""
    kinds = {error.exit_code: type(error) for error in failed.values()}
    kind = next(iter(kinds.values())) if len(kinds) == 1 else StageFailed
    # The error of a single region is the message itself, which may name the region already.
    lines = [
        f"{region:<15} {error.message}"
        for region, error in failed.items()
        if len(failed) > 1 or region not in error.message
    ]
    lines += [f"{region:<15} {text}" for region, text in state.items() if region not in failed]
    details = [error.tail for error in failed.values() if error.tail]
    # `hint` says once for all of them that the command is to be run again.
    remedies = list(
        dict.fromkeys(_AGAIN.sub("", error.hint) for error in failed.values() if error.hint)
    )
    message = f"{len(failed)} regions failed"
    if len(failed) == 1:
        message = next(iter(failed.values())).message
    return kind(
        f"{what}: {message}",
        tail="\n".join([*details, *lines]),
        hint="; ".join([*remedies[:2], hint]),
    )
