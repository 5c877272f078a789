"""Role trim leaves no test suite and no second copy, and the wheels' RECORDs name what is there.

That the rest works is asked by the tests of frameworks and cuda, and by the coverage check.
"""

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.no_boot


@pytest.fixture(scope="module")
def found(run_program: Any) -> Any:
    return run_program((HERE / "gather.py").read_text())


def test_a_wheels_record_names_no_file_that_went(found: Any) -> None:
    assert found["records"] > 0
    assert found["missing"] == []


def test_equal_files_are_one(found: Any) -> None:
    assert found["copies"] == []


def test_no_test_suite_is_left(found: Any, lock: dict[str, Any]) -> None:
    if lock["trim_test_suites_enabled"]:
        assert found["suites"] == []
