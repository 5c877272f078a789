"""The supervisor of a scenario's container, while `golden molecule-container up` waits for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from goldenami.core import shell
from goldenami.core.process import ProcessId
from goldenami.image.bake import molecule
from goldenami.packages.store import Store
from support.waiting import until

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
WAITING = """
import sys
from pathlib import Path
from goldenami.image.bake import molecule
from goldenami.core import shell
folder = Path(sys.argv[1])
supervisor = shell.Command(["sleep", "600"]).start(log=folder / "log", session=True)
print(supervisor.pid, flush=True)
molecule.wait_ready("x", folder, supervisor)
"""


def test_an_interrupt_ends_the_supervisor(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SCRIPTS), "PATH": "/bin"},
    )
    assert process.stdout is not None
    supervisor = Path("/proc", process.stdout.readline().strip())
    assert supervisor.exists()
    stat = Path(f"/proc/{process.pid}/stat")
    # Until it sleeps, it does not wait.
    until(
        "a process that sleeps",
        lambda: stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "S",
    )
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert "KeyboardInterrupt" in said
    assert not supervisor.exists()


@pytest.mark.parametrize("earlier", [0, 1])
def test_down_ends_the_supervisor_and_nobody_who_has_its_pid_later(
    tmp_path: Path, earlier: int
) -> None:
    store = Store(tmp_path)
    folder = store.cache.containers / "x"
    folder.mkdir(parents=True)
    supervisor = shell.Command(["sleep", "600"]).start(log=tmp_path / "log", session=True)
    process = ProcessId.of(supervisor.pid)
    assert process is not None
    (folder / "pid").write_text(
        str(ProcessId(process.pid, process.started - earlier)), encoding="utf-8"
    )
    molecule.down("x", store)
    assert (process.alive, folder.exists()) == (earlier > 0, False)
    shell.stop(supervisor)


def test_a_scenario_s_tests_import_the_pipeline_without_the_wrapper() -> None:
    """`molecule test -s limits` by hand: only scripts/molecule sets PYTHONPATH for itself."""
    config = yaml.safe_load(
        (SCRIPTS.parent / ".config/molecule/config.yml").read_text(encoding="utf-8")
    )
    path = config["verifier"]["env"]["PYTHONPATH"].replace(
        "${MOLECULE_PROJECT_DIRECTORY}", str(SCRIPTS.parent)
    )
    done = subprocess.run(
        [sys.executable, "-c", "import goldenami; print(goldenami.__file__)"],
        cwd="/",
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(f"{SCRIPTS}/"), done.stderr
