"""What the tests of frameworks share: what is on the disk, gathered by one command, and how it
runs, by another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.model.roles import recipes

PROBES = Path(__file__).parent / "probes"


def program(name: str) -> str:
    """A framework's smoke test, after what is asked of it in the same process."""
    probe = PROBES / f"{name}.py"
    smoke = recipes.folder(Path.cwd(), name) / "smoke.py"
    return (probe.read_text() if probe.exists() else "") + smoke.read_text()


@pytest.fixture(scope="session")
def known() -> dict[tuple[str, ...], Any]:
    """The facts of each host, which every file of tests looks at."""
    return {}


@pytest.fixture(scope="module")
def gathered(
    host: Any, lock: dict[str, Any], known: Any, run_program: Any
) -> Callable[..., dict[str, Any]]:
    """A function that returns the facts of these names."""

    def facts(*names: str) -> dict[str, Any]:
        if (key := (str(host), *names)) not in known:
            installed = lock["frameworks_installed"]
            smoke = {one["name"]: program(one["name"]) for one in installed}
            text = Path(__file__).with_name("gather.py").read_text()
            given = (installed, smoke, lock["frameworks_python_packages"])
            known[key] = run_program(text, *map(json.dumps, given), *names)
        return dict(known[key])

    return facts


@pytest.fixture(scope="module")
def files(gathered: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What is on the disk."""
    return gathered("distributions", "check", "compiled", "record", "closed", "pips")


@pytest.fixture(scope="module")
def ran(gathered: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """How the frameworks run on this CPU: `verify` asks its own machine's, ten times as fast as an
    emulated one."""
    return gathered("flags", "smoke", "gpu", "entered", "imported", "own", "doctor")


@pytest.fixture(scope="module")
def facts(gathered: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What only a boot shows: the CPUs of a session, and of a unit with a quota."""
    return gathered("login", "cpus", "unit")


@pytest.fixture(scope="module")
def run_pytorch(user: Any, lock: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A function that runs gpu_pytorch.py in PyTorch's environment, as the user of this
    connection."""
    environment = next(
        (one["environment"] for one in lock["frameworks_installed"] if one["name"] == "pytorch"), ""
    )
    if not environment:
        pytest.skip("not asked: the image has no PyTorch")
    text = Path(__file__).with_name("gpu_pytorch.py").read_text()

    def run(*arguments: str) -> dict[str, Any]:
        done = user.run(
            "/opt/ml/bin/ml-run %s python -I -B -c %s" + " %s" * len(arguments),
            environment,
            text,
            *arguments,
        )
        assert done.rc == 0, done.stderr[-600:]
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    return run
