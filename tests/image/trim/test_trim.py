"""What role trim took out of the image: what it wrote down is so, and is nothing that a declared GPU could choose.

That the rest works is asked by the tests of frameworks and cuda, and by the coverage check.
"""

from pathlib import Path
from typing import Any

import pytest
from goldenami.local.code_coverage.fatbin import DeviceImage

HERE = Path(__file__).parent
SHARE_HOLES = 0.75
"""Of what went, what is a hole at least: headers between payloads, and the ends of holes, are stored."""

pytestmark = pytest.mark.no_boot


@pytest.fixture(scope="module")
def found(run_program: Any) -> Any:
    return run_program((HERE / "gather.py").read_text())


@pytest.fixture(scope="module")
def report(found: Any) -> Any:
    assert found["report"], "/opt/ml/TRIMMED.json is not there: the role found nothing to take out"
    return found["report"]


def test_no_declared_gpu_could_choose_what_went(report: Any, lock: dict[str, Any]) -> None:
    went = {name for row in report["gpu_code"] for name in row["architectures"]}
    assert report["architectures"] == sorted(lock["trim_architectures"], key=int)
    assert bool(went) == (lock["trim_gpu_code"] != "none")
    images = [DeviceImage(int("".join(filter(str.isdigit, name))), name.lstrip("0123456789"), ptx=False)
              for name in went]
    assert [image.name for image in images for sm in report["architectures"] if image.runs_on(int(sm))] == []


def test_programs_and_wheels_records_are_as_written_down(found: Any, report: Any) -> None:
    now = {row["path"]: row["now"] for row in report["gpu_code"]}
    assert found["digests"] == now
    assert found["recorded"] == now
    assert [row["path"] for row in report["gpu_code"] if row["was"] in ("", row["now"])] == []


def test_a_wheels_record_names_no_file_that_went(found: Any) -> None:
    assert found["missing"] == []


def test_what_went_takes_no_room(found: Any, report: Any, record_figure: Any) -> None:
    """Zeros are holes of the file system; of what is not at a block's border something stays."""
    record_figure("machine code taken out", f"{sum(row['bytes'] for row in report['gpu_code']) / 1e9:.2f} GB")
    wrong = {row["path"]: found["stored"][row["path"]] for row in report["gpu_code"]
             if found["stored"][row["path"]] > found["sizes"][row["path"]] - SHARE_HOLES * row["bytes"]}
    assert wrong == {}


def test_equal_files_are_one(found: Any, lock: dict[str, Any]) -> None:
    assert all(found["linked"])
    if lock["trim_duplicates_enabled"]:
        assert found["twins"] == []


def test_no_test_suite_is_left(found: Any, lock: dict[str, Any]) -> None:
    if lock["trim_test_suites_enabled"]:
        assert found["suites"] == []
