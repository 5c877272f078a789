"""What the channels of an image named, in every order of moves."""

from __future__ import annotations

from goldenami.aws.channels.ledger import HISTORY, Channel, GpuProof, Ledger, LedgerEntry
from hypothesis import given, settings
from hypothesis import strategies as st


def mark(number: int, ami: str = "ami-1") -> LedgerEntry:
    return LedgerEntry(
        build_id=f"{number:012x}",
        ami=ami,
        baked_at=f"2026-11-25T09:{number:02}:00Z",
        since="2026-11-25T09:00:00Z",
        by="a@b:1",
        fence=1,
        gpu=GpuProof.NONE,
    )


def moved(*numbers: int) -> Ledger:
    ledger = Ledger()
    for number in numbers:
        ledger = ledger.moved(Channel.LATEST, mark(number))
    return ledger


def builds(ledger: Ledger) -> list[int]:
    return [int(old.build_id, 16) for old in ledger.history]


def test_a_rollback_goes_to_the_last_that_was_not_withdrawn() -> None:
    ledger = moved(1, 2, 3)
    back = ledger.withdraw(mark(3).build_id).moved(Channel.LATEST, mark(2))
    assert (back.went_back, back.previous()) == (True, mark(1))
    assert not ledger.went_back
    further = back.withdraw(mark(2).build_id).moved(Channel.LATEST, mark(1))
    assert (further.previous(), further.entry_of(mark(3).build_id)) == (None, mark(3))
    assert further.readmit(mark(2).build_id).previous() == mark(2)
    assert not moved(1, 2, 3, 4).moved(Channel.LATEST, mark(5)).went_back


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=80))
def test_history_holds_no_build_twice_and_never_the_present_one(numbers: list[int]) -> None:
    ledger = moved(*numbers)
    names = builds(ledger)
    assert len(names) == len(set(names)) <= HISTORY
    assert ledger.latest is None or int(ledger.latest.build_id, 16) not in names
    assert Ledger.model_validate_json(ledger.model_dump_json()) == ledger
