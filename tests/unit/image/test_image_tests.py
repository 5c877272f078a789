"""Running tests/image: verify gets every role's checks, or is told that nobody looked."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami import cli
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.local.checks import image_tests
from goldenami.local.checks.image_tests import ImageTests
from goldenami.model import program_files
from goldenami.model.builds.build_records import Check
from support.builds.sample_lock import sample
from support.builds.tools import ROOT
from support.files import write
from support.waiting import until

EXAMPLE = "debian-13-ml-cpu"
RIGHT, WRONG = "def test_right():\n    pass\n", "def test_wrong():\n    assert False\n"
BREAKS_OFF = "def pytest_runtest_logreport(report):\n    raise RuntimeError('the disk is full')\n"


@pytest.fixture(autouse=True)
def clone(tmp_path: Path) -> None:
    write(tmp_path, {program_files.PLAYBOOK: ""})


def run(root: Path, files: dict[str, str]) -> list[Check]:
    """The checks of a checkout whose tests/image holds `files`.

    Its image has these roles and an untested one.
    """
    write(root / "tests/image", files)
    (root / "ssh_config").touch()
    roles = sorted({Path(name).parts[0] for name in files if "/" in name})
    tests = ImageTests(root, [*roles, "untested"], root / "vars.json", root, root / "log")
    return tests.run(root / "ssh_config")


def test_each_runs_where_its_mark_says_and_once(tmp_path: Path) -> None:
    marked = "import pytest\n@pytest.mark.no_boot\ndef test_file():\n    assert False\n"
    named = "def pytest_configure(config):\n    config.addinivalue_line('markers', 'no_boot')\n"
    files = {
        "limits/test_limits.py": f"{marked}{RIGHT}",
        "seal/test_seal.py": RIGHT,
        "conftest.py": named,
    }
    write(tmp_path / "tests/image", files)
    (tmp_path / "ssh_config").touch()
    found = {}
    for name, argv in (
        ("-disk", image_tests.without_boot(tmp_path)),
        ("", image_tests.over_ssh(tmp_path / "ssh_config", everything=False)),
    ):
        tests = ImageTests(
            tmp_path, ["limits", "seal"], tmp_path / "vars.json", tmp_path, tmp_path / "log"
        )
        with tests.running(argv, name=name) as run:
            found[name] = run.checks()
    assert outcomes(found["-disk"]) == {"limits/file": "incorrect"}
    assert outcomes(found[""]) == {"limits/right": "correct", "seal/right": "correct"}
    whole = image_tests.complete(
        [*found[""], *found["-disk"], *found[""]], ["limits", "seal", "cuda"]
    )
    assert [check.id for check in whole] == [
        "limits/right",
        "seal/right",
        "limits/file",
        "cuda/ran",
    ]


def test_each_role_gets_its_checks_or_is_told_that_nobody_looked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A role without a file is not missed; a person's own options leave no test out."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k right")
    monkeypatch.setenv("PYTEST_PLUGINS", "nowhere")
    skips = "import pytest\npytest.skip('no GPU', allow_module_level=True)\n"
    found = run(
        tmp_path,
        {
            "limits/test_limits.py": RIGHT + WRONG,
            "seal/test_seal.py": "# every test has moved away\n",
            "cuda/test_cuda.py": "import nothing_like_it\n",
            "kernel/test_kernel.py": skips,
        },
    )
    assert outcomes(found) == {
        "cuda/collected[cuda]": "unreachable",
        "kernel/collected[kernel]": "unreachable",
        "limits/right": "correct",
        "limits/wrong": "incorrect",
        "seal/ran": "unreachable",
    }
    details = {check.role: check.detail for check in found}
    assert "No module named 'nothing_like_it'" in details["cuda"]
    assert "no GPU" in details["kernel"]


def test_tests_that_hang_end_and_the_log_names_the_one(tmp_path: Path) -> None:
    log, hangs = tmp_path / "log", "import time\ndef test_that_hangs():\n    time.sleep(600)\n"
    write(tmp_path, {"tests/image/limits/test_limits.py": hangs})
    limits = ImageTests(tmp_path, ["limits"], tmp_path / "vars.json", tmp_path, log)
    with limits.running(["-vv"]) as tests:
        until("the test to begin", lambda: "test_that_hangs" in log.read_text(encoding="utf-8"))
        with pytest.raises(StageFailed, match="tests run for 0 s and have not ended") as stopped:
            tests.checks(0.1)
    assert "test_that_hangs" in stopped.value.tail and tests.process.poll() is not None


def outcomes(checks: list[Check]) -> dict[str, str]:
    return {check.id: check.outcome.value for check in checks}


def test_a_run_that_broke_off_is_no_result(tmp_path: Path) -> None:
    """pytest wrote a list of checks nevertheless, of what it had come to."""
    with pytest.raises(
        HostNotReady, match="could not run the image's checks: RuntimeError: the disk is full"
    ):
        run(
            tmp_path,
            {"conftest.py": BREAKS_OFF, "limits/test_limits.py": RIGHT, "seal/test_seal.py": RIGHT},
        )
    assert (tmp_path / "checks.json").exists()


def test_checks_of_roles_and_image_of_another_repository_have_the_program_s_fixtures(
    tmp_path: Path,
) -> None:
    (tmp_path / program_files.PLAYBOOK).unlink()
    asks = "def test_port(lock):\n    assert lock['agent_port'] == 9100\n"
    write(
        tmp_path,
        {
            "tests/image/agent/test_it.py": asks,
            "tests/image/other/test_it.py": RIGHT,
            "tests/image/rocky-1.2/test_it.py": asks,
            "tests/image/debian-13/test_it.py": WRONG,
            "vars.json": '{"golden_roles": ["agent", "other"], "agent_port": 9100, '
            '"golden_image": "rocky-1.2"}',
            "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-k nothing'\n",
            "ssh_config": "",
        },
    )
    tests = ImageTests(
        tmp_path,
        sample(image="rocky-1.2", roles=["agent", "other"]).checked,
        tmp_path / "vars.json",
        tmp_path / "build",
        tmp_path / "log",
    )
    found = tests.run(tmp_path / "ssh_config")
    assert outcomes(found) == {
        "agent/port": "correct",
        "other/right": "correct",
        "rocky-1.2/port": "correct",
    }


def test_check_names_checks_that_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "whole"
    root.mkdir()
    for name in ("ansible", "roles", "packer"):
        (root / name).symlink_to(ROOT / name)
    for name in (
        "acme/test_acme.py",
        "limits/test_limits.py",
        f"{EXAMPLE}/test_it.py",
        "test_all.py",
    ):
        (root / "tests/image" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "tests/image" / name).touch()
    assert cli.main(["--root", str(root), "check", EXAMPLE]) == 2
    said = capsys.readouterr().err.replace(f"{root}/tests/image/", "").splitlines()
    problem = "nothing runs these checks: no role or image is named"
    assert [line.partition("`:")[0] for line in said if problem in line] == [
        f"  | acme: {problem} `acme",
        f"  | test_all.py: {problem} `test_all",
    ]
