"""What a look at an account found, a finding a fact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from goldenami.aws.session import Account, translated
from goldenami.core.errors import GoldenError, Unreachable
from goldenami.core.records import Record

State = Literal["fits", "stops", "unknown"]


class AccountFact(Record):
    """One fact of a region, or of the whole account if `region` is "".

    `stops` are the commands that would fail, `mend` is what to do. A fact that could not be read is
    unknown, and `text` says why.
    """

    region: str
    subject: str
    state: State
    text: str
    mend: str = ""
    stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What a question is about, and the commands that need it."""

    region: str
    name: str
    needed_by: tuple[str, ...] = ()

    def says(self, state: State, text: str, mend: str = "") -> AccountFact:
        return AccountFact(
            region=self.region,
            subject=self.name,
            state=state,
            text=text,
            mend="" if state == "fits" else mend,
            stops=self.needed_by if state == "stops" else (),
        )


Question = Callable[[Account, Subject], Iterable[AccountFact]]


def ask(account: Account, questions: Mapping[Subject, Question]) -> Iterator[AccountFact]:
    """Ask one question after the other. An error makes its subject unknown; a region that does not
    answer is asked no more."""
    for subject, question in questions.items():
        try:
            with translated(subject.region):
                yield from question(account, subject)
        except GoldenError as error:
            yield subject.says("unknown", error.message, error.hint)
            if isinstance(error, Unreachable):
                return
