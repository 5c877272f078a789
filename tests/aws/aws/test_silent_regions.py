"""Regions that hang, that break connections, that throttle: every command names them, and soon; a
busy client is none.

Nothing is timed: that a region is given up shows in how often it was asked.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from goldenami.aws import regions, session
from goldenami.aws.session import SHORT_ATTEMPTS
from support.aws import unbound
from support.aws.emulator import Emulator, Faults
from support.aws.seeded_account import SeededAccount
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

ROOT = Path(__file__).resolve().parents[3]
WEST = REGIONS[1]
SILENCE_S = 3.0
"""Seconds, so that tests need not wait for seven; the emulator may be slow on a busy machine."""
COMMANDS = (
    ("status",),
    ("costs",),
    ("drift", IMAGE),
    ("sweep",),
    ("retire", IMAGE),
    ("promote", IMAGE, "--now"),
    ("publish", IMAGE, "--dry-run"),
    ("publish", IMAGE),
    ("release", IMAGE),
    ("rollback", IMAGE),
)
"""All that ask every region; the last one moves what answers."""
AT_ONCE = 3
"""Calls that a command may have under way in one region: `costs` asks for reservations beside the
rest."""


@pytest.fixture
def published(checkout: Checkout, aws: Emulator) -> list[str]:
    """Ids of two builds; a third one is here."""
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}], account: '123456789012'}}\n")
    aws.set(pending_s=0.01)
    build_ids = [checkout.publish(number) for number in (1, 2)]
    builds.build(checkout.root, 3)
    return build_ids


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(COMMANDS[::9], id="some"),
        pytest.param(COMMANDS, id="every", marks=pytest.mark.slow),
    ],
)
def test_a_region_that_hangs_is_named_by_every_command_and_asked_once(
    checkout: Checkout,
    published: list[str],
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    commands: tuple[tuple[str, ...], ...],
) -> None:
    monkeypatch.setattr(session, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(session, "PRESSURE", tmp_path / "of a machine with nothing else to do")
    aws.late({"mode": "hanging", "regions": [WEST], "seconds": 3600})
    for args in commands:
        before = len(aws.calls())
        ran = checkout.golden(*args)
        assert (ran.code, f"AWS did not answer in {WEST} for 3 s" in ran.text) == (4, True), (
            args,
            ran.text,
        )
        asked = [call for call, region in aws.calls()[before:] if region == WEST]
        assert len(asked) <= AT_ONCE, (args, asked)
    aws.late()
    assert [RegionState(region).agree() for region in REGIONS] == published


def test_a_region_that_throttles_answers(
    checkout: Checkout, published: list[str], faults: Faults
) -> None:
    faults.add("ec2:*", "throttled", regions=[WEST], times=SHORT_ATTEMPTS + 2)
    ran = checkout.golden("promote", IMAGE, "--now", "--dry-run")
    assert ran.code == 0, ran.text
    assert faults.met() == SHORT_ATTEMPTS + 2


# --- a server of a few lines ---

BODY = b"<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


def ask_at(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@contextmanager
def served(before_answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of AWS as a socket: a request gets `before_answer`, then a region list."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            before_answer(connection)
            connection.sendall(ANSWER)

    def accept() -> None:
        with ThreadPoolExecutor(64) as pool, suppress(OSError):
            while True:
                pool.submit(answer, server.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    with server:
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def silent() -> Iterator[int]:
    """The port of one that accepts nothing: its queue is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def refusing() -> Iterator[int]:
    """The port of a socket that does not listen."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]


SILENT, REFUSED = (f"AWS did not answer in us-east-1{how}" for how in (" for 2 s", ": Could not"))


@pytest.mark.parametrize(
    ("out", "said", "busy", "times"),
    [
        (None, SILENT, "97.47", 2),
        (None, SILENT, "3.00", 1),
        (silent, SILENT, "3.00", 0),
        (refusing, REFUSED, "3.00", 0),
    ],
    ids=["busy", "accepts and says nothing", "accepts nothing", "refuses"],
)
def test_each_way_not_to_answer_is_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    out: Callable[[], AbstractContextManager[int]] | None,
    said: str,
    busy: str,
    times: int,
) -> None:
    """Twice where the machine's processes wait for a processor nearly all the time."""
    (tmp_path / "cpu").write_text(
        f"some avg10={busy} avg60=0.00 avg300=0.00 total=1\n", encoding="utf-8"
    )
    monkeypatch.setattr(session, "PRESSURE", tmp_path / "cpu")
    monkeypatch.setattr(session, "SILENCE_S", 2.0)
    asked, ended = list[socket.socket](), threading.Event()

    def say_nothing(connection: socket.socket) -> None:
        asked.append(connection)
        ended.wait()

    hasty = unbound.account().with_short_timeouts()
    with out() if out else served(say_nothing) as port:
        ask_at(monkeypatch, port)
        results = regions.for_each_region(
            ["us-east-1"], lambda name: hasty.ec2(name).describe_regions()
        )
        ended.set()
    assert said in results.failed["us-east-1"].message
    assert len(asked) <= times, "asked once, or twice"


CLIENT = """
import sys
from goldenami.aws import session
from goldenami.model.operation.residency import AllowedRegions
session.SILENCE_S = 1.0
client = session.Account(AllowedRegions(rules=())).with_short_timeouts().ec2("us-east-1")
print("asks", flush=True)
print(client.describe_regions()["Regions"])
"""


def test_a_client_that_is_not_run_for_longer_than_the_silence_has_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer is there when the client comes to read it: stopped, as a machine with too much to
    do leaves it."""
    asked, answered = threading.Event(), threading.Event()

    def wait_for_the_stop(_: socket.socket) -> None:
        asked.set()
        answered.wait()

    with served(wait_for_the_stop) as port:
        ask_at(monkeypatch, port)
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        )
        try:
            assert asked.wait(60)
            client.send_signal(signal.SIGSTOP)
            answered.set()
            time.sleep(2.5)  # longer than the client's whole patience
        finally:
            client.send_signal(signal.SIGCONT)
        said, _ = client.communicate(timeout=60)
    assert (client.returncode, said) == (0, "asks\n[]\n")


def test_costs_ask_as_often_for_many_builds_as_for_few(
    account: SeededAccount,
    checkout: Checkout,
    aws: Emulator,
) -> None:
    def calls() -> list[str]:
        before = len(aws.calls())
        checkout.run("costs", "--region", account.region)
        return sorted(call for call, _ in aws.calls()[before:])

    for number in (1, 2, 3):
        account.ami(number)
    few = calls()
    assert few.count("ec2:DescribeImages") == 1, "one look for all images"
    for number in range(4, 40):
        account.ami(number)
    assert calls() == few
