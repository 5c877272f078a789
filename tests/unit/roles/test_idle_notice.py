"""golden-idle's notices: their words, and where they go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from golden_idle import account, holds, notice, owner
from golden_idle.account import AccountError, Instance
from golden_idle.settings import Action
from support import files
from support.idle import traces


def test_a_notice_says_what_will_happen_and_how_to_keep_the_machine() -> None:
    here = Instance("i-1", "g6.xlarge", "ami-1", "us-east-1")
    wanted = traces.settings(action=Action.POWEROFF)
    said = notice.lines(here, wanted, 61.2)
    assert said[0] == "i-1 has been idle for 61 minutes."
    assert "powers off in 15 minutes" in said[1] and "golden-idle hold 4h REASON" in said[2]
    [holding] = notice.of_holders(notice.holders([os.getpid(), 2**22 + 1], Path("/")))
    assert holding.endswith(f"({holds.user_name(os.getuid())}, {os.getpid()}).")
    assert notice.of_holders([]) == []
    assert notice.subject(here, wanted, []) == "i-1 (g6.xlarge, us-east-1) is idle: poweroff"
    assert notice.subject(here, wanted, ["J\u00f6rg"]).endswith(": poweroff (J?rg)")


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        (["ann@example.org"], "Its owner: ann@example.org."),
        (["U0123456789"], "Its owner: <@U0123456789>."),
        (
            ["vision", "U0123456789"],
            "Its owners: vision, <@U0123456789>. Please tell vision, who gave no address.",
        ),
        ([], "Its owner is not known: the metadata service tells no tag `Owner`."),
    ],
)
def test_a_notice_calls_its_owners(owners: list[str], said: str) -> None:
    assert owner.lines(owners) == [said]


def test_a_notice_goes_by_https_alone_and_the_address_is_in_no_message() -> None:
    for address in (
        "http://127.0.0.1:9/x",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "x",
        "https://h/a b",
        "https://h/\u00e9",
        "https://h:abc/x",
        "https://h:0/x",
    ):
        with pytest.raises(AccountError, match="does not begin with https://"):
            account.post(address, {"text": "x"})
    with pytest.raises(AccountError) as caught:
        account.post("https://127.0.0.1:9/secret", {"text": "x"})
    assert "cannot be reached" in str(caught.value) and "secret" not in str(caught.value)


def test_those_who_are_logged_in_are_told_and_those_who_log_in(tmp_path: Path) -> None:
    files.write(tmp_path / "dev/pts", {"0": "", "ptmx": ""})
    notice.tell_terminals(tmp_path, "It powers off\nin 15 minutes")
    notice.tell_logins(tmp_path / notice.LOGIN, "It powers off\nin 15 minutes")
    assert (tmp_path / "dev/pts/0").read_bytes() == b"\r\nIt powers off\r\nin 15 minutes\r\n"
    assert (tmp_path / notice.LOGIN).read_text() == "It powers off\nin 15 minutes\n"
    notice.take_back(tmp_path)
    notice.take_back(tmp_path)
    assert not (tmp_path / notice.LOGIN).exists()
    assert (tmp_path / "dev/pts/ptmx").read_text() == ""
