"""A pytest plugin: each test of tests/image becomes a check with one of four outcomes.

A passed assertion is `correct`, a failed one `incorrect`. A file, unit or package that does not
exist is `missing`. A check that could not look (the connection broke, a fixture failed, the test
skipped itself) is `unreachable`, never `correct`; so is a file whose tests could not be collected.
A skip whose reason begins with `not asked: ` is no check at all: the image's definition does not
ask for what the test looks at.

A check's seconds include those of its set-up; a set-up that tests of a file share counts for the
first of them.

Use: `pytest -p goldenami.image.verify.pytest_plugin`, with `--checks FILE` naming the JSON file to
write.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from goldenami.core import records
from goldenami.local.sandbox import how_far
from goldenami.model.builds.build_records import Check, Outcome
from goldenami.model.builds.figures import MEASURED, Figure
from goldenami.model.builds.gpu_proofs import NOT_ASKED

DETAIL_LIMIT = 600
"""Most characters of a failure's message in a record; the JUnit file has all."""
SIDE_LIMIT = 200
"""Most characters of each side of a comparison in a record."""
_MISSING = (
    "No such file",
    "does not exist",
    "is not installed",
    "could not be found",
    "not found",
    "is missing",
)

_SPELLED = {
    "cdi": "CDI",
    "cpu": "CPU",
    "cuda": "CUDA",
    "docker": "Docker",
    "ec2": "EC2",
    "efa": "EFA",
    "gpu": "GPU",
    "gpus": "GPUs",
    "gsp": "GSP",
    "java": "Java",
    "molecule": "Molecule",
    "nccl": "NCCL",
    "nvidia": "NVIDIA",
    "nvlink": "NVLink",
    "nvswitch": "NVSwitch",
    "pam": "PAM",
    "podman": "Podman",
    "pytorch": "PyTorch",
    "ssh": "SSH",
    "uuid": "UUID",
}
"""Words whose capitals a test's name cannot have."""

_checks: dict[str, Check] = {}
_seconds: defaultdict[str, float] = defaultdict(float)
_compared: dict[str, tuple[str, str]] = {}

FIGURES = pytest.StashKey[list[Figure]]()
"""What a test measured; its figures count if it passes."""


_tests_done = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which `verify` and `gpu-test` call the tests of an image."""
    parser.addoption("--checks", help="the JSON file that the checks' outcomes go to")
    parser.addoption("--booted", action="store_true", help="the tests run on a booted image")
    parser.addoption(
        "--gpu-session", help="the JSON file of a GpuSession; with it the tests marked gpu run"
    )


def _say_how_far(session: pytest.Session) -> None:
    if target := session.config.getoption("--checks"):
        progress = f"{_tests_done} {len(session.items)}"
        Path(target).with_suffix(how_far.SUFFIX).write_text(progress, encoding="utf-8")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the number of tests, once it is known."""
    _say_how_far(session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Count a test when its teardown is over."""
    global _tests_done  # noqa: PLW0603 - as the checks themselves: a plugin's run is a process
    result = yield
    _tests_done += 1
    _say_how_far(item.session)
    return result


def _title(item: pytest.Item) -> str:
    # A name has no apostrophe: `image_s` in it stands for `image's`.
    name = re.sub(r"_s(?=_|$)", "'s", item.name.partition("[")[0].removeprefix("test_"))
    words = re.sub(
        r"[a-z0-9]+", lambda word: _SPELLED.get(word[0], word[0]), name.replace("_", " ")
    )
    title = words[0].upper() + words[1:]
    if parameters := ", ".join(_parameters(item)):
        title += f": {parameters}"
    return title


def _parameters(item: pytest.Item) -> list[str]:
    callspec: Any = getattr(item, "callspec", None)
    parameters = callspec.params if callspec else {}
    # testinfra parametrises each test by its host, which is the same for all.
    return [str(value) for name, value in parameters.items() if name != "_testinfra_host"]


def _id(item: pytest.Item) -> str:
    name = item.name.partition("[")[0]
    if parameters := _parameters(item):
        name += f"[{'-'.join(parameters)}]"
    return f"{item.path.parent.name}/{name.removeprefix('test_')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn pytest's report of a phase into this check's outcome; the worst phase counts."""
    report = yield
    earlier_check = _checks.get(item.nodeid)
    _seconds[item.nodeid] += report.duration
    # A set-up or teardown that passed is no outcome; a thing that the image need not have is no
    # check.
    if report.when != "call" and report.passed:
        return report
    if report.skipped and _reason(report).startswith(NOT_ASKED):
        return report
    outcome, detail = _outcome(report, call)
    if earlier_check is None or earlier_check.outcome is Outcome.CORRECT:
        actual, expected = "", ""
        if outcome in (Outcome.INCORRECT, Outcome.MISSING):
            actual, expected = _compared.get(item.nodeid, ("", ""))
        _checks[item.nodeid] = Check(
            id=_id(item),
            role=item.path.parent.name,
            title=_title(item),
            outcome=outcome,
            detail=detail[:DETAIL_LIMIT],
            expected=expected,
            actual=actual,
            seconds=round(_seconds[item.nodeid], 2),
        )
    return report


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> None:
    """Note both sides of a failed comparison: tests write `actual == expected`, or `part in
    whole`."""
    # The hook does not get the test; pytest names it in this variable, with the phase after a
    # space.
    nodeid = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    left_text, right_text = _short(left), _short(right)
    match op:
        case "in":
            sides = right_text, f"has {left_text}"
        case "not in":
            sides = right_text, f"has no {left_text}"
        case "==":
            sides = left_text, right_text
        case _:
            sides = left_text, f"{op} {right_text}"
    _compared[nodeid] = sides


def _short(side: object) -> str:
    text = side if isinstance(side, str) else repr(side)
    if len(text) > SIDE_LIMIT:
        return f"{text[:SIDE_LIMIT]}…"
    return text


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Turn a file that cannot be collected into an unreachable check: nobody knows its tests."""
    report = yield
    if report.failed or (report.skipped and not _reason(report).startswith(NOT_ASKED)):
        role, name = collector.path.parent.name, collector.path.stem.removeprefix("test_")
        # The last line with an error says more than the reason, which is its whole traceback.
        detail = _reason(report)
        for line in report.longreprtext.splitlines():
            if line.startswith("E "):
                detail = line.removeprefix("E ").strip()
        _checks[collector.nodeid] = Check(
            id=f"{role}/collected[{name}]",
            role=role,
            title=f"The tests of {name} were collected",
            seconds=0.0,
            outcome=Outcome.UNREACHABLE,
            detail=detail[:DETAIL_LIMIT],
        )
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr).removeprefix("Skipped: ")


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[Outcome, str]:
    if report.passed:
        return Outcome.CORRECT, ", ".join(
            f"{name} {value}" for name, value in report.user_properties
        )
    if report.skipped:
        return Outcome.UNREACHABLE, _reason(report)
    error = call.excinfo.value if call.excinfo else None
    detail = str(error).strip() or report.longreprtext
    # Only an assertion or a missing file in the test itself says something of the image.
    if report.when != "call" or not isinstance(error, (AssertionError, FileNotFoundError)):
        return Outcome.UNREACHABLE, f"{type(error).__name__}: {detail}"
    if isinstance(error, FileNotFoundError) or any(word in detail for word in _MISSING):
        return Outcome.MISSING, detail
    return Outcome.INCORRECT, detail


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the checks to the file that `--checks` names."""
    if target := session.config.getoption("--checks"):
        checks = [check.model_dump(mode="json") for check in _checks.values()]
        records.write_text(Path(target), records.canonical(checks))
        figures = list[dict[str, Any]]()
        for item in session.items:
            if FIGURES in item.stash and _checks[item.nodeid].outcome is Outcome.CORRECT:
                figures += [figure.model_dump(mode="json") for figure in item.stash[FIGURES]]
        records.write_text(Path(target).with_suffix(MEASURED), records.canonical(figures))
