"""What a change can break, by imports and names (support/changed_tests.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import changed_tests

FILES = {
    "scripts/goldenami/core/units.py": "",
    "scripts/goldenami/local/sizes.py": "from goldenami.core import units\n",
    "scripts/goldenami/local/account.py": "NAME = 'account.yml'\n",
    "scripts/goldenami/commands/retire.py": "import goldenami.local.sizes\n",
    "tests/support/lists.py": "import goldenami.core.units\n",
    "tests/aws/conftest.py": "from support.lists import x\n",
    "tests/aws/test_fleet.py": "",
    "tests/aws/test_sweep.py": "def test(): run('sweep')\n",
    "tests/unit/test_sizes.py": "def test():\n    from goldenami.local import sizes\n",
    "tests/unit/test_program.py": "def test(): start('goldenami.local.sizes')\n",
    "tests/unit/test_account.py": "import goldenami.local.account\n",
    "tests/unit/test_role.py": "PATH = 'roles/kernel'\n",
    "tests/unit/test_other.py": "",
    "tests/bench/bench_units.py": "import goldenami.core.units\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("changed", "reached"), [
    ("scripts/goldenami/core/units.py", {
        "unit/test_sizes.py": 2, "unit/test_program.py": 2, "aws/test_sweep.py": 3, "aws/test_fleet.py": 3}),
    ("scripts/goldenami/commands/retire.py", {"aws/test_sweep.py": 1}),
    ("tests/aws/conftest.py", {"aws/test_sweep.py": 1, "aws/test_fleet.py": 1}),
    ("tests/unit/test_other.py", {"unit/test_other.py": 0}),
    ("scripts/goldenami/aws/account.yml", {"unit/test_account.py": 1}),
    ("roles/kernel/tasks/main.yml", {"unit/test_role.py": 0}),
    ("roles/kernels/tasks/main.yml", {}),
    ("tests/unit/test_gone.py", {}),
])
def test_a_change_reaches_what_imports_or_names_it(
    tree: Path, changed: str, reached: dict[str, int]
) -> None:
    found = changed_tests.distances(tree, {changed})
    assert found == {f"tests/{name}": distance for name, distance in reached.items()}


def test_near_and_then_short_files_fit_into_a_minute(tmp_path: Path) -> None:
    record, far = tmp_path / "fast.xml", {"tests/a.py": 1, "tests/b.py": 1, "tests/c.py": 2,
                                          "tests/new.py": 3}
    assert changed_tests.chosen(far, record, 7) == ["tests/a.py", "tests/b.py"]
    record.write_text("<x><testcase classname='tests.a' time='5'/><testcase classname='tests.b' "
                      "time='2'/>"
                      "<testcase classname='tests.b' time='2.5'/><testcase classname='tests.c' "
                      "time='9'/></x>")
    assert changed_tests.chosen(far, record, 8) == ["tests/b.py", "tests/new.py"]
    assert changed_tests.chosen(far, record, 1) == ["tests/b.py"]


def test_a_change_is_what_the_branch_and_the_working_tree_have(tree: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words],
                       cwd=tree, check=True,
                       capture_output=True)

    git("init", "--initial-branch", "main")
    git("add", ".")
    git("commit", "-m", "All")
    assert changed_tests.changed(tree) == set()
    git("checkout", "-b", "branch")
    (tree / "tests/unit/test_other.py").write_text("x = 1\n", encoding="utf-8")
    git("commit", "-am", "One")
    (tree / "tests/unit/test_role.py").unlink()
    (tree / "new.txt").touch()
    assert changed_tests.changed(tree) == {"tests/unit/test_other.py", "tests/unit/test_role.py",
                                           "new.txt"}
