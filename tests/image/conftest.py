"""What the tests of an image share: the machine as root and as who logged in, the lock's facts,
whether this is the booted image.

Called for a container (Molecule, as root), for the booted image and for a launched instance (over
SSH, as the default user). What is marked `no_boot` is asked of the disk's root tree instead of the
booted image (as root). GOLDEN_VARS names the JSON file with the variables that the image was baked
with. Tests marked `gpu` run only where `--gpu-session` names the JSON file of a GpuSession
(goldenami/model/builds/gpu_proofs.py): `golden gpu-test` writes it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.image.verify.pytest_plugin import FIGURES
from goldenami.local.machine import shell_backends
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.figures import Figure

RunProgram = Callable[..., dict[str, Any]]
MACHINE = (
    "cat /sys/class/dmi/id/product_name 2>/dev/null; "
    "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1; echo $(nproc) CPUs"
)
"""Names a machine: on EC2 its product is the instance type."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep one shell open on the machine: under emulation a command of its own over SSH costs a
    second."""
    shell_backends.install()
    config.add_cleanup(shell_backends.close)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests `at_rest` on a booted image, and `gpu` where no GPU is.

    Molecule has neither option: they are of goldenami.image.verify.pytest_plugin.
    """
    asked = {
        "at_rest": not config.getoption("--booted", default=False),
        "gpu": bool(config.getoption("--gpu-session", default=None)),
    }
    marks = [mark for mark, wanted in asked.items() if not wanted]
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def lock() -> dict[str, Any]:
    """The variables that the image was baked with."""
    path = os.environ.get("GOLDEN_VARS")
    if not path:
        pytest.fail(
            "GOLDEN_VARS has to name the JSON file with the image's variables", pytrace=False
        )
    variables: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return variables


@pytest.fixture(scope="session")
def gpu_type(
    pytestconfig: pytest.Config,
    record_testsuite_property: Callable[[str, object], None],
) -> dict[str, Any]:
    """What the instance type's GPUs are: a GpuType of hardware.py. The JUnit file names the
    test."""
    session = json.loads(Path(pytestconfig.getoption("--gpu-session")).read_text(encoding="utf-8"))
    for name in ("ami", "nonce"):
        record_testsuite_property(f"goldenami:{name}", session[name])
    figures: dict[str, Any] = session["kind"]
    return figures


@pytest.fixture(scope="session", autouse=True)
def _which_build(
    lock: dict[str, Any], record_testsuite_property: Callable[[str, object], None]
) -> None:
    """The JUnit file says which build was tested: `golden gpu-test --junit` takes no other's."""
    record_testsuite_property("goldenami:build-id", lock.get("golden_build_id", ""))


@pytest.fixture(scope="module", autouse=True)
def _only_what_is_the_image_s(request: pytest.FixtureRequest, lock: dict[str, Any]) -> None:
    """Checks of its roles and its own, before any fixture of theirs looks at the machine."""
    name, image = request.path.parent.name, lock.get("golden_image")
    if name not in (*lock["golden_roles"], image):
        pytest.skip(f"{image} has no role {name}")


@functools.cache
def _come_up(host: Any) -> str:
    """Systemd's word for the machine once no unit is starting any more. It takes as long as the
    boot takes: a busy host starts a unit minutes after sshd lets the checks in."""
    return str(host.run("systemctl is-system-running --wait").stdout).strip()


@pytest.fixture(scope="module")
def user(_testinfra_host: Any) -> Any:
    """The machine as testinfra's `host` shows it to who logged in."""
    _come_up(_testinfra_host)
    return _testinfra_host


@pytest.fixture(scope="module")
def host(user: Any) -> Any:
    """testinfra's `host`, asked as root: a container is entered as root, the booted image as its
    default user, who has sudo."""
    return shell_backends.as_root(user)


@pytest.fixture(scope="module")
def settings(host: Any) -> Callable[[str], list[str]]:
    """A function that reads a file of settings: its lines but blank ones and comments."""

    def read(path: str) -> list[str]:
        lines = host.file(path).content_string.splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]

    return read


@pytest.fixture(scope="module")
def settled(host: Any) -> str:
    """Systemd's word for the machine that has come up: `running`, or what keeps it from that."""
    return str(host.run("systemctl is-system-running").stdout).strip()


@pytest.fixture(scope="module")
def run_program(host: Any, user: Any) -> RunProgram:
    """A function that runs a Python program's text, as root or as the user who logged in, and reads
    its JSON: for a table of all files, and for what no command tells."""

    def run(program: str, *arguments: str, root: bool = True) -> dict[str, Any]:
        words = " %s" * (1 + len(arguments))
        done = (host if root else user).run(f"python3 -B -c{words}", program, *arguments)
        assert done.rc == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


@pytest.fixture
def record_figure(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """A function that puts a figure into the check's detail in verify.json, and into the test's
    part of JUnit's file.

    pytest's record_property does the same and warns, as its default schema of JUnit's file knows no
    such part.
    """
    return lambda name, value: request.node.user_properties.append((name, value))


@pytest.fixture
def record_values(request: pytest.FixtureRequest, host: Any) -> Callable[..., None]:
    """A function that keeps the values of a figure, measured once or several times, for
    `figures.json`; the check's detail has their median. The unit `s` means that less is better.
    `before` are the values of the build before, where it was measured in turn with this one."""

    def record(
        name: str,
        unit: str,
        values: list[float],
        before: list[float] | None = None,
        build: BuildFolder | None = None,
    ) -> None:
        facts = host.check_output(MACHINE).splitlines()
        figure = Figure(name=name, unit=unit, machine=", ".join(facts), values=values)
        if before and build:
            figure = figure.model_copy(update={"before": before, "before_build": build.build_id})
        request.node.stash.setdefault(FIGURES, []).append(figure)
        request.node.user_properties.append((name, str(figure)))

    return record


@pytest.fixture(scope="module")
def booted(host: Any) -> bool:
    """Whether this is a machine on the image's own kernel rather than a container on the
    builder's."""
    return bool(host.run("systemd-detect-virt --quiet --container").failed)


@pytest.fixture(scope="module")
def needs_boot(booted: bool) -> None:
    """Skip in a container."""
    if not booted:
        pytest.skip("needs the image's own kernel: a container runs the builder's")
