from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from goldenami.core.errors import ExitCode, Unreachable
from goldenami.packages import download, http_documents
from goldenami.packages.download import StoreRequest
from goldenami.packages.mirrors import Refused
from support.loopback import Loopback, QuietHandler

Answer = Callable[[BaseHTTPRequestHandler], object]


class Server:
    """Answers each request by `answer`."""

    def __init__(self) -> None:
        self.answer: Answer = lambda handler: handler.send_error(404)
        outer = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            do_HEAD = do_GET

        self._served = Loopback(Handler)
        self.url, self.close = self._served.url, self._served.close


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def sending(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def refused(url: str, limit: int = http_documents.LIMIT) -> str:
    with pytest.raises(Unreachable) as caught:
        http_documents.read(url, limit=limit)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert url in caught.value.message
    return caught.value.message


def test_a_document_and_its_day(server: Server) -> None:
    server.answer = sending(b"{}", Last_Modified="Sun, 15 Jun 2025 15:06:40 GMT")
    found = http_documents.read(f"{server.url}/x")
    assert (found.data, found.changed, found.json("x")) == (b"{}", date(2025, 6, 15), {})
    assert http_documents.changed(f"{server.url}/x") == date(2025, 6, 15)
    server.answer = sending(b"{}", Last_Modified="yesterday")
    assert http_documents.read(f"{server.url}/x").changed is None


def test_a_short_redirect_is_followed(server: Server) -> None:
    def once(handler: BaseHTTPRequestHandler) -> None:
        (sending(b"", 301, Location="/new") if handler.path == "/old" else sending(b"here"))(
            handler
        )

    server.answer = once
    assert http_documents.read(f"{server.url}/old").data == b"here"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sending(b"", 404), "answered 404"),
        (sending(b"", 503), "answered 503"),
        (sending(b"half", Content_Length="100"), "4 bytes read, 96 more expected"),
        (sending(b"{}", Content_Length="many"), "states a length that is none: 'many'"),
        (sending(b"", Content_Length=str(2 << 30)), "is larger than 32 MiB"),
    ],
)
def test_an_answer_that_is_none(server: Server, answer: Answer, said: str) -> None:
    server.answer = answer
    assert said in refused(f"{server.url}/list")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("login", "said"), [("", "missing"), ("ann:pw@", "wrong, or may not")])
def test_a_refusal_is_about_the_login(
    server: Server, status: int, login: str, said: str, tmp_path: Path
) -> None:
    """Of a document, a file whose size alone is asked for, and a download."""
    server.answer = sending(b"", status)
    address = f"{server.url}/x".replace("://", f"://{login}")
    store_request = StoreRequest("0" * 64, 1, address, "x")
    with download.Http(1) as http, download.part_of(tmp_path / "x", threading.Event()) as part:
        assert part is not None
        for ask in (
            lambda: http_documents.read(address),
            lambda: http_documents.remote_file(address),
            lambda: http_documents.length(address),
            lambda: download.receive(http, store_request, part, lambda _: None),
        ):
            with pytest.raises(Refused) as caught:
                ask()
            assert caught.value.message == f"{server.url}/x answered {status}"
            assert f"its login is {said}" in caught.value.hint


def test_a_server_that_hangs_or_is_not_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    monkeypatch.setattr(http_documents, "TIMEOUT", 0.2)
    server.answer = lambda _handler: held.wait(20)
    assert "timed out" in refused(f"{server.url}/list")
    held.set()
    assert "127.0.0.1:9/" in refused("http://127.0.0.1:9/list")


@pytest.mark.parametrize("chunked", [False, True])
def test_the_deadline_is_looked_at_whenever_something_comes(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    chunked: bool,
) -> None:
    held = threading.Event()
    monkeypatch.setattr(http_documents, "DEADLINE_S", 0)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header(
            *(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", "100"))
        )
        handler.end_headers()
        handler.wfile.write(b"1\r\nx\r\n" if chunked else b"x")
        held.wait(20)

    server.answer = drip
    assert "sent 1 bytes in 0 s" in refused(f"{server.url}/list")
    held.set()


@pytest.mark.parametrize("data", [b"", b"<html>", b"[" * 100_000])
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(Unreachable, match="http://x is not JSON"):
        http_documents.Document(data, None).json("http://x")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "releases.json"
    path.write_text(json.dumps({"535": {}}), encoding="utf-8")
    assert http_documents.read(str(path)).json("x") == {"535": {}}
    assert http_documents.read(f"file://{path}").changed is not None
    with pytest.raises(Unreachable, match="is larger than 0 MiB"):
        http_documents.read(str(path), limit=4)
    with pytest.raises(Unreachable, match="nowhere: No such file"):
        http_documents.read("nowhere")


def test_addresses_that_are_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document's, the webhook's and the proxy's: curl takes one without a scheme."""
    with pytest.raises(Unreachable, match=r"http://\[x: Invalid IPv6 URL"):
        http_documents.read("http://[x")
    with pytest.raises(Unreachable, match=r"the webhook could not be reached \(ValueError\)"):
        http_documents.post("https://[secret", {}, name="the webhook")
    monkeypatch.setenv("https_proxy", "127.0.0.1:9")
    for ask in (http_documents.read, http_documents.changed):
        with pytest.raises(Unreachable, match=r"https://example\.invalid: .*scheme"):
            ask("https://example.invalid")
