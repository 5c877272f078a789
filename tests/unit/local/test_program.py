"""A failure in the namespaces keeps its exit code on its way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.core import errors
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError, HostNotReady, StageFailed
from goldenami.core.process import ProcessId
from goldenami.core.terminal.progress import Progress
from goldenami.local.sandbox import events, namespaces, program
from goldenami.model.builds.plans import ContainerAccess, ProgramPlan
from support.builds.checkout import processes
from support.builds.tools import need
from support.waiting import until

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
    kind: type[GoldenError],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        events.fail(kind("what happened", hint="what to do", tail="last lines")) == kind.exit_code
    )
    event = events.read(capsys.readouterr().out)
    assert event is not None
    again = events.failure(event, tmp_path / "log")
    assert type(again) is kind
    assert (again.message, again.hint, again.tail) == ("what happened", "what to do", "last lines")


def test_what_broke_off_is_a_failed_stage(tmp_path: Path) -> None:
    event = {"message": "it died", "hint": "", "tail": "", "code": errors.ExitCode.INTERNAL}
    assert type(events.failure(event, tmp_path / "log")) is StageFailed


def test_a_plan_goes_in_and_a_result_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("unshare", "setpriv")
    (tmp_path / "answers.py").write_text(ANSWERS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    plan = ProgramPlan(work=tmp_path, log=tmp_path / "log")
    access = program.call(
        "answers", plan, ContainerAccess, Progress.of("bake", "x", CachePaths(tmp_path))
    )
    assert access == ContainerAccess(
        address="10.0.0.2", ssh_key=tmp_path / "key", proxy_command="nc"
    )
    assert list((tmp_path / "temporary").iterdir()) == [], "temporary files outlive the run"


BESIDE = """
import sys
import time
from pathlib import Path
from goldenami.core.errors import HostNotReady
from goldenami.local.sandbox import events
from goldenami.local.sandbox import program
from goldenami.model.builds.plans import ContainerAccess, ProgramPlan

def run(plan):
    with events.step("os_updates"):
        events.emit("say", text="role os_updates")
        while not (plan.work / "go").exists():
            time.sleep(0.01)
    if (plan.work / "go").read_text() == "fail":
        raise HostNotReady("no space", hint="free some")
    return ContainerAccess(address="10.0.0.2", ssh_key=plan.work / "key", proxy_command="nc")

sys.exit(program.serve(ProgramPlan, run))
"""


Beside = Callable[[Progress, Callable[[], None]], ContainerAccess]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Beside:
    need("unshare", "setpriv")
    (tmp_path / "beside.py").write_text(BESIDE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plan = ProgramPlan(work=tmp_path, log=tmp_path / "log")
    return lambda progress, work: program.beside("beside", plan, ContainerAccess, progress, work)


def test_a_program_runs_beside_a_step(
    beside: Beside,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its lines stand among those of the step. Both together took what the phases say."""
    progress = Progress.of("bake", "x", CachePaths(tmp_path))

    def work() -> None:
        with progress.step("modules"):
            until(
                "the program's line",
                lambda: "role os_updates" in (tmp_path / "log").read_text(encoding="utf-8"),
            )
            (tmp_path / "go").touch()

    (tmp_path / "log").touch()
    began = time.monotonic()
    with progress.joint("modules and wheels"):
        assert beside(progress, work).address == "10.0.0.2"
    took = time.monotonic() - began
    lines = [line.split(maxsplit=2)[2] for line in capsys.readouterr().err.splitlines()]
    assert sorted(lines) == ["modules", "os_updates", "role os_updates"]
    assert set(progress.timings) == {"modules", "os_updates", "modules and wheels"}
    assert set(progress.phases) == {"os_updates", "modules and wheels"}
    assert progress.timings["os_updates"] <= sum(progress.phases.values()) <= took + 0.01


def test_a_failure_beside_a_step_is_raised_as_what_it_was(beside: Beside, tmp_path: Path) -> None:
    with pytest.raises(HostNotReady, match="no space") as caught:
        beside(
            Progress.of("bake", "x", CachePaths(tmp_path)),
            lambda: print((tmp_path / "go").write_text("fail")),
        )
    assert caught.value.hint == "free some"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), StageFailed("it does not compile", hint="look")]
)
def test_what_ends_a_step_ends_the_program_beside_it(
    beside: Beside,
    tmp_path: Path,
    error: BaseException,
) -> None:
    def work() -> None:
        until("the program", lambda: processes(f"{tmp_path}/plan.json"))
        raise error

    with pytest.raises(type(error)) as caught:
        beside(Progress.of("bake", "x", CachePaths(tmp_path)), work)
    assert caught.value is error
    until("the end of the program", lambda: not processes(f"{tmp_path}/plan.json"))
    cgroups = [
        folder for root in namespaces._cgroup_roots() for folder in root.glob("goldenami-beside-*")
    ]
    assert not [path for path in cgroups if ProcessId.parse(path.name) == ProcessId.current()]


def test_another_error_of_the_system_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), errors.space(tmp_path):
        (tmp_path / "absent").read_bytes()
