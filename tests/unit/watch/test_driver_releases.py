"""NVIDIA's list of driver branches against packer/driver_branches.yml: 17 planted releases, GPUs
and families are each named once, and today's list says nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami.core import clock
from goldenami.core.errors import GoldenError, Unreachable
from goldenami.model import program_files
from goldenami.model.supported import compatibility, hardware
from goldenami.model.supported.compatibility import DriverTable
from goldenami.watch.sources import driver_releases
from support.builds.tools import ROOT
from support.files import write
from support.loopback import Loopback, QuietHandler

DRIVERS = compatibility.load(ROOT)
READ = DRIVERS.read
TODAY = {
    **dict.fromkeys(("450", "470", "535", "580", "620"), "lts branch"),
    **dict.fromkeys(("460", "510", "515", "525", "550", "570", "595"), "production branch"),
    **dict.fromkeys(("495", "520", "575", "590", "610", "615"), "new feature branch"),
}
"""The branches of NVIDIA's list by type, as public sources tell of December 2026."""
Serve = Callable[[dict[str, str]], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A server with a list in the layout of NVIDIA's, of the branches that a test gives."""
    body = bytearray()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.answer(200 if self.path == "/releases.json" else 404, bytes(body))

    def fill(types: dict[str, str]) -> None:
        rows: dict[str, Any] = {}
        for branch, kind in types.items():
            release = {"release_version": f"{branch}.65.06", "release_date": "2026-11-04"}
            rows[branch] = {"type": kind, "driver_info": [{**release, "architectures": ["x86_64"]}]}
        body[:] = json.dumps(rows).encode()

    with Loopback(Handler) as server:
        monkeypatch.setenv(driver_releases.VARIABLE, f"{server.url}/releases.json")
        yield fill


@pytest.fixture
def company(tmp_path: Path) -> Path:
    """A repository of definitions, with the program's table."""
    return tmp_path


def with_rows(company: Path, section: str, **rows: object) -> DriverTable:
    """The table as a company sees it that adds these rows."""
    text = yaml.safe_dump({section: {name.strip("_"): row for name, row in rows.items()}})
    write(company, {compatibility.TABLE: text})
    return compatibility.load(company)


def refusal(check: Callable[..., object], *args: object) -> str:
    with pytest.raises(GoldenError) as caught:
        check(*args)
    return f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize(
    ("branch", "kind", "row"),
    [
        ("625", "lts branch", '"625": {"kind": "lts"}'),
        ("625", "production branch", '"625": {"kind": "production"}'),
        ("630", "new feature branch", '"630": {"kind": "new feature"}'),
        ("640", "hyperscale branch", '"640": {}'),
        ("595", "lts branch", '"595": {"cuda": "13.2", "kind": "lts", "ends": "2027-03-31"}'),
    ],
)
def test_a_planted_release_is_proposed(serve: Serve, branch: str, kind: str, row: str) -> None:
    serve({**TODAY, branch: kind})
    assert driver_releases.messages(DRIVERS, READ) == [
        f"packer/driver_branches.yml lacks the row that NVIDIA's list has now: {row}; "
        "add its cuda and end (docs/adding.md)"
    ]


def test_the_lts_branch_that_went_unnoticed_is_proposed(serve: Serve) -> None:
    serve(TODAY)
    rows = {name: row for name, row in DRIVERS.branches.items() if name != "620"}
    [text] = driver_releases.messages(DRIVERS.model_copy(update={"branches": rows}), READ)
    assert '"620": {"kind": "lts"}' in text


def test_today_s_list_says_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(TODAY)
    assert driver_releases.messages(DRIVERS, READ + timedelta(days=60)) == []
    monkeypatch.setenv(driver_releases.VARIABLE, "http://127.0.0.1:9/releases.json")
    assert driver_releases.messages(DRIVERS, READ) == [], "a list out of reach is no news"


def test_a_table_older_than_60_days_is_named(serve: Serve) -> None:
    serve(TODAY)
    [text] = driver_releases.messages(DRIVERS, READ + timedelta(days=61))
    assert f"was read on {READ}, 61 days ago: run scripts/driver_branches" in text


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (READ + timedelta(days=1), f"ends on {READ + timedelta(days=1)}, in 1 days"),
        (READ - timedelta(days=1), f"ended on {READ - timedelta(days=1)}: no more fixes come"),
        ("ended", "has ended, NVIDIA says"),
        (None, "the end of driver branch 630 is not known: add the row `630`"),
    ],
)
def test_the_end_of_a_planted_branch(company: Path, ends: date | str | None, said: str) -> None:
    table = with_rows(company, "branches", _630={"cuda": "13.6", "ends": ends})
    assert said in table.near_end("630", READ)
    assert table.check_cuda("13.6", "630.1.1") == "driver branch 630 has CUDA 13.6"


def test_unknown_never_fits(company: Path) -> None:
    table = with_rows(company, "branches", _630={"kind": "lts"})
    unknown = "is not known; add the row `{}` to `{}` of packer/driver_branches.yml"
    for branch in ("630", "999"):  # without a CUDA, and without a row
        said = f"what driver branch {branch} runs {unknown.format(branch, 'branches')}"
        assert said in refusal(table.check_cuda, "12.0", f"{branch}.1.1")
        assert said.replace(";", ":") in table.branch_refusal(branch, ["90"])
    said = 'what CUDA 14.0 needs is not known; add `"14": DRIVER` to `cuda`'
    assert said in refusal(table.check_cuda, "14.0", "620.70.06")
    said = f"what runs and compiles for sm_130 {unknown.format('130', 'architectures')}"
    assert said in refusal(table.check_architectures, "13.5", ["90", "130"])
    assert said.replace(";", ":") in table.branch_refusal("620", ["90", "130"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("families: {x9: {cpu: neoverse-v9, source: gp}}", "unknown cpu `neoverse-v9`"),
        ("families: {g9: {cpu: znver5, gpu: R100, counts: [1], source: ac}}", "unknown gpu `R100`"),
    ],
)
def test_a_family_with_an_unknown_chip(company: Path, row: str, said: str) -> None:
    write(company, {"packer/hardware.yml": f"{row}\n"})
    assert said in refusal(hardware.load, company)


def test_the_script_writes_the_rows_of_the_list(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, later = tmp_path / compatibility.TABLE, READ + timedelta(days=100)
    write(tmp_path, {program_files.PLAYBOOK: ""})
    path.parent.mkdir()
    shutil.copy(ROOT / compatibility.TABLE, path)
    before = path.read_text(encoding="utf-8")
    now = clock.now().replace(year=later.year, month=later.month, day=later.day)
    monkeypatch.setattr(clock, "now", lambda: now)
    serve(TODAY)
    driver_releases.main(tmp_path)
    after = before.replace(f"read: {READ}", f"read: {later}")
    assert path.read_text(encoding="utf-8") == after
    serve({**TODAY, "630": "production branch"})
    driver_releases.main(tmp_path)
    assert path.read_text(encoding="utf-8") == f'{after}  "630": {{"kind": "production"}}\n'
    monkeypatch.setenv(driver_releases.VARIABLE, str(ROOT / "packer/base_images.json"))
    with pytest.raises(Unreachable, match="is no list of drivers"):
        driver_releases.main(tmp_path)
