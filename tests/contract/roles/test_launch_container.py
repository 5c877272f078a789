"""roles/container_runtime's golden-container: the container of a launch, by a real Podman."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import files
from support.builds import launched
from support.builds.podman import Podman
from support.builds.tools import ROOT, find
from support.waiting import until

PROGRAM = ROOT / "roles/container_runtime/files/golden_container.py"


class Machine:
    """A tree with a first user who has a folder `keep`, and an engine with one image, `job`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.root, self.engine = root, Podman(folder)
        launched.compile_job(folder)
        subprocess.run([find("tar"), "-C", folder, "-cf", folder / "job.tar", "job"], check=True)
        label = f"LABEL {launched.LEAST_DRIVER}"
        for name, change in (("job", 'ENTRYPOINT ["/job"]'), ("newer", label)):
            self.engine.podman("import", "--change", change, str(folder / "job.tar"), name)
        files.write(root / "proc", {"mounts": ""})
        files.write(root / "etc", {"passwd": "admin:x:1000:1000::/home/admin:/bin/bash\n"})
        (root / "home/admin/keep").mkdir(parents=True)

    def start(self, **settings: Any) -> subprocess.Popen[str]:
        text = json.dumps({"image": "job", **settings})
        files.write(self.root / "etc", {"golden-container.json": text})
        return subprocess.Popen(
            [sys.executable, "-I", PROGRAM, "podman", "--root", self.root],
            env=self.engine.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, **settings: Any) -> tuple[int, str]:
        process = self.start(**settings)
        said, _ = process.communicate()
        return process.returncode, said


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("engine"), tmp_path_factory.mktemp("root"))
    yield made
    made.engine.close()


def test_each_launch_has_a_new_container_and_keep_stays(machine: Machine) -> None:
    (machine.root / "home/admin/keep/result").unlink(missing_ok=True)
    status, said = machine.ended()
    assert status == 0 and "made: 0, keep: 0, scratch: 0\n" in said
    assert "golden-container: job has ended after " in said and said.endswith(": exit status 0\n")
    stays = machine.start(command=["0", "stay"])
    assert stays.stdout is not None and stays.stdout.readline() == "made: 0, keep: 1, scratch: 0\n"
    # The program is killed, as with a machine that loses power: its container has the name.
    stays.kill()
    stays.wait()
    status, said = machine.ended(command=["3"])
    stays.communicate()  # its engine ended with the container
    assert status == 3 and said.splitlines()[0] == "made: 0, keep: 1, scratch: 0"
    assert said.endswith(": exit status 3\n")
    until("a container that goes", lambda: not machine.engine.podman("ps", "--all", "--quiet"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image": "golden-ml"}, "golden-ml is not on this machine: `podman images` lists what is"),
        (
            {"image": "127.0.0.1:9/job"},
            "127.0.0.1:9/job is not on this machine, and cannot be pulled: see above",
        ),
        ({"image": 7}, "`image` has to be an image's name"),
        ({"image": "--privileged"}, "`image` has to be an image's name"),
        ({"gpus": True}, "job wants GPUs, and no driver is loaded"),
        ({"gpus": "all"}, "`gpus` has to be true or false"),
        ({"command": "python3"}, "`command` has to be a list of words"),
        ({"comand": []}, "unknown key `comand`; known: command, gpus, image"),
        ({"image": "newer", "command": ["/none"]}, ": its image has no such command"),
    ],
)
def test_what_cannot_run_is_one_line(machine: Machine, settings: Any, said: str) -> None:
    status, text = machine.ended(**settings)
    assert status and said in text.splitlines()[-1], text


def test_an_image_that_asks_for_a_newer_driver(machine: Machine) -> None:
    files.write(machine.root / "proc/driver/nvidia", {"version": f"{launched.DRIVER}\n"})
    status, said = machine.ended(image="newer", gpus=True)
    (machine.root / "proc/driver/nvidia/version").unlink()
    assert (status, said.count("\n")) == (1, 1)
    assert "newer asks for driver 570.26, and 550.163.01 is loaded" in said
