"""A pytest plugin: each test of tests/image becomes a check with one of four outcomes.

`correct` and `incorrect` are what an assertion says. A file, unit or package that is not there is
`missing`. A check that could not look (the connection broke, a fixture failed, the test skipped
itself) is `unreachable`, never `correct`; so is a file whose tests could not be collected. Only a
skip whose reason begins with `not asked: ` is no check at all: there the image's definition does
not ask for what the test looks at.

A check's seconds include those of its set-up: what a file's tests share counts to the first of
them.

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
from goldenami.model.builds.gpu_proofs import NOT_ASKED

DETAIL_LIMIT = 600
"""Characters of a failure's message that a record keeps; the whole is in the JUnit file."""
SIDE_LIMIT = 200
"""Characters of either side of a comparison that a record keeps."""
_MISSING = (
    "No such file",
    "does not exist",
    "is not installed",
    "could not be found",
    "not found",
    "is missing",
)

_SPELLED = {
    word.lower(): word
    for word in (
        "CDI",
        "CPU",
        "CUDA",
        "Docker",
        "EC2",
        "EFA",
        "GPU",
        "GPUs",
        "GSP",
        "Java",
        "Molecule",
        "NCCL",
        "NVIDIA",
        "NVLink",
        "NVSwitch",
        "PAM",
        "Podman",
        "PyTorch",
        "SSH",
        "UUID",
    )
}
"""Words that a test's name cannot spell."""

_checks: dict[str, Check] = {}
_seconds: defaultdict[str, float] = defaultdict(float)
_compared: dict[str, tuple[str, str]] = {}


_done = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `verify` and `gpu-test` tell the tests of an image."""
    parser.addoption("--checks", help="the JSON file that the checks' outcomes go to")
    parser.addoption("--booted", action="store_true", help="the tests run on a booted image")
    parser.addoption(
        "--gpu-session", help="the JSON file of a GpuSession; with it the tests marked gpu run"
    )


def _say_how_far(session: pytest.Session) -> None:
    if target := session.config.getoption("--checks"):
        said = f"{_done} {len(session.items)}"
        Path(target).with_suffix(how_far.SUFFIX).write_text(said, encoding="utf-8")


def pytest_collection_finish(session: pytest.Session) -> None:
    """The number of tests is known."""
    _say_how_far(session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """A test with its set-up and teardown."""
    global _done  # noqa: PLW0603 - as the checks themselves: a plugin's run is a process
    ran = yield
    _done += 1
    _say_how_far(item.session)
    return ran


def _title(item: pytest.Item) -> str:
    name = re.sub(r"_s(?=_|$)", "'s", item.name.partition("[")[0].removeprefix("test_"))
    words = re.sub(
        r"[a-z0-9]+", lambda word: _SPELLED.get(word[0], word[0]), name.replace("_", " ")
    )
    return ": ".join([words[0].upper() + words[1:], *filter(None, [", ".join(_parameters(item))])])


def _parameters(item: pytest.Item) -> list[str]:
    callspec: Any = getattr(item, "callspec", None)
    given = callspec.params if callspec else {}
    return [str(value) for name, value in given.items() if name != "_testinfra_host"]


def _id(item: pytest.Item) -> str:
    parameters = _parameters(item)
    name = item.name.partition("[")[0] + (f"[{'-'.join(parameters)}]" if parameters else "")
    return f"{item.path.parent.name}/{name.removeprefix('test_')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn pytest's report of a phase into this check's outcome; the worst phase counts."""
    report = yield
    before = _checks.get(item.nodeid)
    _seconds[item.nodeid] += report.duration
    if (report.when != "call" and report.passed) or (
        report.skipped and _reason(report).startswith(NOT_ASKED)
    ):
        return report
    outcome, detail = _outcome(report, call)
    if before is None or before.outcome is Outcome.CORRECT:
        said_otherwise = outcome in (Outcome.INCORRECT, Outcome.MISSING)
        sides = _compared.get(item.nodeid) if said_otherwise else None
        actual, expected = sides or ("", "")
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
    """Note both sides of a comparison that failed: tests write `actual == expected`, `part in
    whole`."""
    nodeid = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    one, other = (_short(side) for side in (left, right))
    _compared[nodeid] = (
        (other, f"has {one}" if op == "in" else f"has no {one}")
        if op in ("in", "not in")
        else (one, other if op == "==" else f"{op} {other}")
    )


def _short(side: object) -> str:
    text = side if isinstance(side, str) else repr(side)
    return text if len(text) <= SIDE_LIMIT else f"{text[:SIDE_LIMIT]}…"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """A file that cannot be collected is a check that could not look: its tests are unknown."""
    report = yield
    if report.failed or (report.skipped and not _reason(report).startswith(NOT_ASKED)):
        role, name = collector.path.parent.name, collector.path.stem.removeprefix("test_")
        said = [
            line.removeprefix("E ").strip()
            for line in report.longreprtext.splitlines()
            if line.startswith("E ")
        ]
        _checks[collector.nodeid] = Check(
            id=f"{role}/collected[{name}]",
            role=role,
            title=f"The tests of {name} were collected",
            seconds=0.0,
            outcome=Outcome.UNREACHABLE,
            detail=(said[-1] if said else _reason(report))[:DETAIL_LIMIT],
        )
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[Outcome, str]:
    if report.passed:
        return Outcome.CORRECT, ", ".join(
            f"{name} {value}" for name, value in report.user_properties
        )
    if report.skipped:
        return Outcome.UNREACHABLE, _reason(report)
    error = call.excinfo.value if call.excinfo else None
    detail = str(error).strip() or report.longreprtext
    if report.when != "call" or not isinstance(error, (AssertionError, FileNotFoundError)):
        return Outcome.UNREACHABLE, f"{type(error).__name__}: {detail}"
    missing = isinstance(error, FileNotFoundError) or any(word in detail for word in _MISSING)
    return (Outcome.MISSING if missing else Outcome.INCORRECT), detail


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the checks."""
    if target := session.config.getoption("--checks"):
        checks = [check.model_dump(mode="json") for check in _checks.values()]
        records.write_text(Path(target), records.canonical(checks))
