"""The same work in many regions at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from goldenami.aws.calls import wait_for
from goldenami.aws.error_kinds import UnknownCredentials
from goldenami.aws.session import translate
from goldenami.core.errors import GoldenError, HostNotReady, StageFailed, Unreachable
from goldenami.core.wait import growing
from goldenami.core.worker_pool import WorkerPool

T = TypeVar("T")

FORWARD_S, BACK_S = 60.0, 300.0
"""For how long a move is tried where AWS throttles it or does not answer, and then its way back."""
AGAIN_S = (0.5, 2, 8.0)
"""Pauses between two tries: the first, its growth, the longest."""


@dataclass(frozen=True)
class RegionResults(Generic[T]):
    """The result or the error of each region, never both."""

    done: dict[str, T]
    failed: dict[str, GoldenError]

    @property
    def causes(self) -> dict[str, str]:
        return {region: error.message for region, error in self.failed.items()}

    def require_all(
        self, what: str = "nothing is changed", hint: str = "then run again"
    ) -> dict[str, T]:
        """The results, or one error that names the regions that failed, why, and those that are
        done."""
        if not self.failed:
            return self.done
        raise combined_error(self.failed, what, hint, dict.fromkeys(self.done, "done"))


def for_each_region(
    regions: Iterable[str],
    work: Callable[[str], T],
    *,
    again_s: float = 0.0,
) -> RegionResults[T]:
    """Call `work` with every region, in parallel. An error in one does not stop the others; a
    defect is raised.

    For `again_s` seconds `work` is begun again where AWS throttles or is silent: it then has to
    bear that it was done before, or half of it.
    What only looks asks by `Account.with_short_timeouts`, which gives up a region that hangs. An
    interrupt does not wait: what is under way then ends with the process.
    """
    names = list(regions)
    done: dict[str, T] = {}
    errors: dict[str, Exception] = {}

    def keep_outcome(region: str) -> None:
        try:
            # A tuple is an answer, whatever is in it.
            (done[region],) = wait_for(
                lambda: (work(region),),
                limit_s=again_s,
                pauses=growing(*AGAIN_S),
                passes=lambda error: isinstance(translate(error, region), Unreachable),
            )
        except Exception as error:  # raised below, when all have ended
            errors[region] = error

    WorkerPool(len(names)).run(names, keep_outcome)
    # translate raises what is none of AWS's errors or ours
    failed = {region: translate(errors[region], region) for region in names if region in errors}
    for region, error in failed.items():
        if done and isinstance(error, UnknownCredentials):
            failed[region] = HostNotReady(
                f"the account has not enabled {region}: it refuses the credentials that "
                f"{next(name for name in names if name in done)} takes",
                hint="enable it (account settings, AWS Regions), or take it out of the definition",
            )
    return RegionResults({region: done[region] for region in names if region in done}, failed)


def in_parallel(questions: Mapping[str, Callable[[], T]]) -> RegionResults[T]:
    """Ask all questions in parallel: of regions, and of the account as a whole. Answers and errors
    are by the names of the questions."""
    return for_each_region(questions, lambda name: questions[name]())


def all_or_none(
    regions: Iterable[str],
    forward: Callable[[str], T],
    back: Callable[[str], None],
    hint: str,
) -> dict[str, T]:
    """Call `forward` in every region. Where it fails in one, call `back` in all, so that none has
    moved, and raise.

    Both are begun again for a while where AWS throttles: pointers that have moved half-way are
    worth the patience. `back` has to bear a region in which `forward` did nothing or half of its
    work. Where it fails too, the error says so.
    """
    names = list(regions)
    moved = for_each_region(names, forward, again_s=FORWARD_S)
    if not moved.failed:
        return moved.done
    undone = for_each_region(names, back, again_s=BACK_S)
    state = {
        **dict.fromkeys(names, "is as it was"),
        **{f"{region}, back": error.message for region, error in undone.failed.items()},
    }
    what = (
        "no pointer has moved"
        if not undone.failed
        else f"pointers may have moved in {', '.join(undone.failed)} and nowhere else"
    )
    raise combined_error(
        moved.failed,
        what,
        hint,
        {name: text for name, text in state.items() if name not in undone.failed},
    )


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """A plan for the regions that answered, and the errors of those that did not."""

    plan: T
    unreachable: dict[str, GoldenError]

    def check(self, refused: Mapping[str, list[GoldenError]], what: str, hint: str) -> None:
        """Raise one error for regions that could not be read and actions that were refused.

        A region that could not be read is not the same as an empty one: it must not end as a
        success.
        """
        first = {
            **self.unreachable,
            **{region: errors[0] for region, errors in refused.items() if errors},
        }
        if first:
            more = {
                f"{region}+{number}": error.message
                for region, errors in refused.items()
                for number, error in enumerate(errors[1:], 1)
            }
            raise combined_error(first, what, hint, more)


_AGAIN = re.compile(r"[;,]? (then )?run again(: it continues)?$")


def combined_error(
    failed: Mapping[str, GoldenError], what: str, hint: str, state: Mapping[str, str]
) -> GoldenError:
    """One error for many: the exit code that all share (else 5), a line for each region, the first
    one's remedy."""
    kinds = {error.exit_code: type(error) for error in failed.values()}
    kind = next(iter(kinds.values())) if len(kinds) == 1 else StageFailed
    # The message itself says what a lone region says, with its name.
    lines = [
        f"{region:<15} {error.message}"
        for region, error in failed.items()
        if len(failed) > 1 or region not in error.message
    ]
    lines += [f"{region:<15} {text}" for region, text in state.items() if region not in failed]
    details = [error.tail for error in failed.values() if error.tail]
    # `hint` says once, for all, that the command goes on.
    remedies = list(
        dict.fromkeys(_AGAIN.sub("", error.hint) for error in failed.values() if error.hint)
    )
    message = (
        next(iter(failed.values())).message if len(failed) == 1 else f"{len(failed)} regions failed"
    )
    return kind(
        f"{what}: {message}",
        tail="\n".join([*details, *lines]),
        hint="; ".join([*remedies[:2], hint]),
    )
