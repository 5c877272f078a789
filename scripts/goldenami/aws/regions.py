"""The same work in many regions at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from goldenami.aws.session import translate
from goldenami.aws.worker_pool import WorkerPool
from goldenami.core.errors import GoldenError, StageFailed

T = TypeVar("T")


@dataclass(frozen=True)
class RegionResults(Generic[T]):
    """What came of each region: a result or an error, never both."""

    done: dict[str, T]
    failed: dict[str, GoldenError]

    def all(self, what: str, hint: str, *, state: Mapping[str, str] | None = None) -> dict[str, T]:
        """The results, or one error for all regions that failed: which, why, and what is where (`state`)."""
        if not self.failed:
            return self.done
        raise failure(self.failed, what, hint, {**dict.fromkeys(self.done, "done"), **(state or {})})


def each(regions: Iterable[str], work: Callable[[str], T]) -> RegionResults[T]:
    """`work` in every region, in parallel; an error in one does not stop the others. A defect is raised.

    An interrupt does not wait for them either: what is under way then ends with the process.
    """
    names = list(regions)
    done: dict[str, T] = {}
    errors: dict[str, Exception] = {}

    def one(region: str) -> None:
        try:
            done[region] = work(region)
        except Exception as error:  # raised below, when all have ended
            errors[region] = error

    WorkerPool(len(names)).run(names, one)
    # translate raises what is none of AWS's errors or ours
    failed = {region: translate(errors[region], region) for region in names if region in errors}
    return RegionResults({region: done[region] for region in names if region in done}, failed)


def all_or_none(
    regions: Iterable[str], forward: Callable[[str], T], back: Callable[[str], None], hint: str,
) -> dict[str, T]:
    """`forward` in every region; where it fails in one, `back` in all, so that none has moved, and one error.

    `back` has to bear a region in which `forward` did nothing or half. Where it fails too, the error says so.
    """
    names = list(regions)
    moved = each(names, forward)
    if not moved.failed:
        return moved.done
    undone = each(names, back)
    state = {**dict.fromkeys(names, "is as it was"),
             **{f"{region}, back": error.message for region, error in undone.failed.items()}}
    what = "no pointer has moved" if not undone.failed else \
        f"pointers may have moved in {', '.join(undone.failed)} and nowhere else"
    raise failure(moved.failed, what, hint, {name: text for name, text in state.items() if name not in undone.failed})


def failure(failed: Mapping[str, GoldenError], what: str, hint: str, state: Mapping[str, str]) -> GoldenError:
    """One error for many: the exit code that all share (else 5), a line for each region, the first one's remedy."""
    kinds = {error.exit_code: type(error) for error in failed.values()}
    kind = next(iter(kinds.values())) if len(kinds) == 1 else StageFailed
    lines = [f"{region:<15} {error.message}" for region, error in failed.items()]
    lines += [f"{region:<15} {text}" for region, text in state.items() if region not in failed]
    details = [error.tail for error in failed.values() if error.tail]
    remedies = list(dict.fromkeys(error.hint for error in failed.values() if error.hint))
    message = next(iter(failed.values())).message if len(failed) == 1 else f"{len(failed)} regions failed"
    return kind(f"{what}: {message}", tail="\n".join([*details, *lines]), hint="; ".join([*remedies[:2], hint]))
