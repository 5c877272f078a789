from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import pytest
from goldenami.core.terminal import meter
from goldenami.core.terminal.meter import Meter
from rich.console import Console
from rich.progress import Progress

MIB = 1 << 20


def test_a_log_gets_few_lines_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = iter([0.0, 0.0, 1.0, 20.0, 20.0, 21.0, 40.0])
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with Meter(said.append, Console(file=io.StringIO())).transfer("upload", 100 * MIB) as advance:
        advance(10 * MIB)  # after 1 s: too soon for a line
        advance(30 * MIB)
        advance(60 * MIB)
    assert said == ["upload: 40 %, 2 MB/s, about 30.0 s left", "upload: 100 MiB in 40.0 s"]


def test_a_terminal_gets_one_display_for_transfers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    displays: list[Progress] = []

    class Counted(Progress):
        def start(self) -> None:
            displays.append(self)
            super().start()

    monkeypatch.setattr(meter, "Progress", Counted)
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    shown = Meter(said.append, console)
    both = threading.Barrier(2, timeout=30)

    def transfer(name: str) -> None:
        with shown.transfer(name, 4 * MIB) as advance:
            both.wait()
            advance(2 * MIB)
            both.wait()

    threads = [
        threading.Thread(target=transfer, args=(name,)) for name in ("us-east-1", "eu-west-1")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.partition(":")[0] for line in said) == ["eu-west-1", "us-east-1"]
    assert len(displays) == 1
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "us-east-1" in text and "4.00 MiB" in text
