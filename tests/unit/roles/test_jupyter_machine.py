"""A hub's machine waits for its user if it is warm, and brings back what the user kept before the
notebook server starts."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from support.builds.tools import ROOT
from support.programs import load
from support.waiting import until

PROGRAM = load(ROOT / "roles/jupyterhub/files/jupyter-machine", "jupyter_machine")


@pytest.mark.parametrize(
    ("place", "golden_keep", "said", "warning"),
    [
        ("s3://acme-keep/vision", 'echo "$@"; ls $HOME', "restore --wait 60\nkeep\n", ""),
        ("s3://acme-keep/vision", "exit 1", "", "returned non-zero exit status 1"),
        ("s3://acme-keep/vision", "", "", "No such file or directory: 'golden-keep'"),
        ("", "echo restored", "", ""),
        (None, "echo restored", "", ""),
    ],
)
def test_a_restore_that_fails_is_a_line_in_the_journal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    place: str | None,
    golden_keep: str,
    said: str,
    warning: str,
) -> None:
    home, programs, told = tmp_path / "home", tmp_path / "bin", tmp_path / "place"
    home.mkdir()
    programs.mkdir()
    if golden_keep:
        program = programs / "golden-keep"
        program.write_text(f"#!/bin/sh\n{golden_keep}\n", encoding="utf-8")
        program.chmod(0o755)
    if place is not None:
        told.write_text(place, encoding="utf-8")
    monkeypatch.setattr(PROGRAM, "PLACE", told)
    PROGRAM.restore({"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home)})
    answer = capfd.readouterr()
    assert answer.out == said
    assert warning in answer.err and answer.err.count("\n") == bool(warning)


SECRET, CLAIM = "of-this-machine", {"user": "ann"}
SERVER, IDLE = "jupyter-machine.json", "golden-idle.local.json"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a warm machine, and programs that say that they ran."""
    (tmp_path / SERVER).write_text(json.dumps({"secret": SECRET}), encoding="utf-8")
    (tmp_path / IDLE).write_text('{"action": "none"}', encoding="utf-8")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text('#!/bin/sh\necho "$@" >> ${0%/*}/ran\n', encoding="utf-8")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(PROGRAM, "ETC", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(PROGRAM, "LISTEN", free.getsockname())
    return tmp_path


def listens() -> bool:
    with suppress(ConnectionRefusedError):
        socket.create_connection(PROGRAM.LISTEN).close()
        return True
    return False


def claim(said: str | None, **files: object) -> int:
    """The status of a claim, once the machine listens."""
    body = json.dumps({f"/etc/{name}": content for name, content in files.items()})
    until("a machine that listens", listens)
    connection = http.client.HTTPConnection(*PROGRAM.LISTEN)
    connection.request("POST", "/", body, {} if said is None else {"Authorization": said})
    return connection.getresponse().status


@pytest.mark.parametrize("idle", [{"keep": "s3://acme-keep/vision"}, None])
def test_a_warm_machine_hears_its_user_once_from_who_knows_the_secret(
    etc: Path, idle: dict[str, str] | None
) -> None:
    before = {name: (etc / name).read_bytes() for name in (SERVER, IDLE)}
    files = {SERVER: CLAIM, **({IDLE: idle} if idle else {})}
    with ThreadPoolExecutor() as pool:
        told = pool.submit(PROGRAM.read)
        for wrong in (None, "", "token ", f"token {SECRET}x", f"token {SECRET[:-1]}", "token \xe9"):
            assert claim(wrong, **files) == 403
            assert {name: (etc / name).read_bytes() for name in before} == before
        assert claim(f"token {SECRET}", **files) == 204
        assert told.result() == CLAIM == json.loads((etc / SERVER).read_text(encoding="utf-8"))
    assert (etc / SERVER).stat().st_mode & 0o777 == 0o600
    assert (etc / IDLE).exists() == bool(idle), "without it the image's settings hold"
    assert (etc / "ran").read_text(
        encoding="utf-8"
    ) == "--no-block try-restart golden-idle.service\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(PROGRAM.LISTEN)
    assert PROGRAM.read() == CLAIM, "a server that starts again has its user"


def test_a_warm_machine_that_nobody_wants_powers_off(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PROGRAM, "WARM_S", 0)
    with pytest.raises(SystemExit, match="nobody came"):
        PROGRAM.read()
    assert (etc / "ran").read_text(encoding="utf-8") == "poweroff\n"
