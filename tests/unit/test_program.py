"""A failure in the namespaces keeps its exit code on its way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import errors
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError, HostNotReady, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.local import events
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import ContainerAccess, ProgramPlan
from support.builds.tools import need

FILLS_A_DISK = """
import sys
from pathlib import Path
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import ProgramPlan

def fill(plan):
    Path("/dev/full").write_text("x")

sys.exit(program.serve(ProgramPlan, fill))
"""
ANSWERS = """
import sys
import tempfile
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import ContainerAccess, ProgramPlan

def answer(plan):
    tempfile.mkdtemp(dir=None)  # as Packer and Ansible do, which leave theirs where they are killed
    return ContainerAccess(address="10.0.0.2", ssh_key=plan.work / "key", proxy_command="nc")

sys.exit(program.serve(ProgramPlan, answer))
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


def test_a_full_disk_in_the_namespaces_is_the_hosts_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("unshare", "setpriv")
    (tmp_path / "fills.py").write_text(FILLS_A_DISK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(HostNotReady, match=f"no space left on the disk of {tmp_path}"):
        program.call("fills", ProgramPlan(work=tmp_path, log=tmp_path / "log"), ContainerAccess,
                     Progress.of("bake", "x", CachePaths(tmp_path)))


def test_a_plan_goes_in_and_a_result_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("unshare", "setpriv")
    (tmp_path / "answers.py").write_text(ANSWERS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    plan = ProgramPlan(work=tmp_path, log=tmp_path / "log")
    access = program.call("answers", plan, ContainerAccess, Progress.of("bake", "x", CachePaths(tmp_path)))
    assert access == ContainerAccess(address="10.0.0.2", ssh_key=tmp_path / "key", proxy_command="nc")
    assert list((tmp_path / "temporary").iterdir()) == [], "temporary files outlive the run"


def test_another_error_of_the_system_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), errors.space(tmp_path):
        (tmp_path / "absent").read_bytes()
