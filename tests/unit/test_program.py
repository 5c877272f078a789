"""A failure inside the namespaces keeps its exit code on its way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import need
from goldenami.core import errors
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError, HostNotReady, StageFailed
from goldenami.core.progress import Progress
from goldenami.local import events
from goldenami.local.sandbox import program

FILLS_A_DISK = """
import sys
from pathlib import Path
from goldenami.core.errors import GoldenError, space
from goldenami.local import events

try:
    with space(Path("/work")):
        Path("/dev/full").write_text("x")
except GoldenError as error:
    sys.exit(events.fail(error))
"""


def test_every_exit_code_has_its_class() -> None:
    assert set(errors.KINDS) == set(GoldenError.__subclasses__())


@pytest.mark.parametrize("kind", errors.KINDS)
def test_an_error_is_raised_again_as_what_it_was(
    kind: type[GoldenError], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    assert events.fail(kind("what happened", hint="what to do", tail="last lines")) == kind.exit_code
    event = events.read(capsys.readouterr().out)
    assert event is not None
    again = events.failure(event, tmp_path / "log")
    assert type(again) is kind
    assert (again.message, again.hint, again.tail) == ("what happened", "what to do", "last lines")


def test_what_broke_off_is_a_failed_stage(tmp_path: Path) -> None:
    event = {"message": "it died", "hint": "", "tail": "", "code": errors.ExitCode.INTERNAL}
    assert type(events.failure(event, tmp_path / "log")) is StageFailed


def test_a_full_disk_inside_is_the_hosts_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("unshare", "setpriv")
    (tmp_path / "fills.py").write_text(FILLS_A_DISK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(HostNotReady, match="no space left on the disk of /work"):
        program.run("fills", tmp_path, tmp_path / "log", Progress.of("bake", "x", CachePaths(tmp_path)))


def test_another_error_of_the_system_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), errors.space(tmp_path):
        (tmp_path / "absent").read_bytes()
