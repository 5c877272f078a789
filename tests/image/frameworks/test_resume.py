"""The job of docs/keep.md resumes in the image."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs/keep.md"


@pytest.mark.no_boot
def test_a_job_that_is_stopped_ends_as_one_that_is_not(
    lock: dict[str, Any], run_program: Any
) -> None:
    environments = [
        one["environment"] for one in lock["frameworks_installed"] if one["name"] == "pytorch"
    ]
    if not environments:
        pytest.skip("not asked: the image has no PyTorch")
    [job] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    # Not runuser: HOME would become that of the account.
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    runner = [*user, "/opt/ml/bin/ml-run", environments[0]]
    program = Path(__file__).with_name("resume.py").read_text(encoding="utf-8")
    found = run_program(program, json.dumps(runner), job)
    # Whichever step it was: one that begins anew says `saved step 1000` first, as the whole one
    # does.
    stopped = int(found["last"].split()[-1])
    end = f"saved step {stopped + 100}"
    assert stopped >= 1000 and found["once"][0] == found["first"] == "saved step 1000"
    assert found["resumed"][-1] == found["once"][-1] == end
    assert found["resumed"][0] != "saved step 1000"
    assert found["ends"] == [f"{stopped + 100} {stopped + 100}"], "equal weights at the same step"
