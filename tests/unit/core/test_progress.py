"""What a person sees while a stage works, on a real terminal and in a log."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.local.sandbox import how_far
from goldenami.model.builds.plans import BakePlan, BakeStep
from support.builds.tools import ROOT
from support.files import write

WORKS = """
import sys, time
from pathlib import Path
from goldenami.core.terminal import meter
from goldenami.core.terminal.progress import Progress

meter.LOOK_S = 0.05
progress = Progress("verify", "x", Path(sys.argv[1]))
with progress.relaying(lambda name: (41, 108, "checks") if name == "checks" else None):
    progress.relay({"kind": "step", "name": "checks"})
    time.sleep(2.5)
    for _ in range(2):
        progress.relay({"kind": "say", "text": "role limits"})
    progress.relay({"kind": "done", "name": "checks", "seconds": 2.5})
package = "2 MB in 1 package, whose line is no longer than it was"
with progress.download("fetch", package, 2 << 20) as on_bytes:
    on_bytes(1 << 20)
    time.sleep(1)
with progress.step("a step with a very long name, longer than any column"):
    pass
Progress("report", "x", Path(sys.argv[1])).say("the same clock")
"""
LINES = [
    " verify 0:01  checks (about 1:18)",
    " verify 0:01  role limits",
    " verify 0:01  fetch: 2 MB in 1 package, whose line is no longer than it was",
    " verify 0:01  a step with a very long name, longer than any column",
    " report 0:01  the same clock",
]


def environment() -> dict[str, str]:
    known = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    return {**known, "PYTHONPATH": str(ROOT / "scripts"), "TERM": "xterm"}


def remembering(folder: Path) -> Path:
    path = folder / "timings.json"
    path.write_text(json.dumps({"checks": 78.0}), encoding="utf-8")
    return path


def on_a_terminal(argv: list[str]) -> str:
    """What `argv` writes on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # Linux says so that the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_terminal_shows_how_far_each_step_is(tmp_path: Path) -> None:
    shown = on_a_terminal([sys.executable, "-c", WORKS, str(remembering(tmp_path))])
    rows = [row.strip() for row in re.split(r"[\r\n]+", shown) if row.strip()]
    assert max(map(len, rows)) <= 80
    seen = {
        clock
        for row in rows
        for clock in re.findall(r"checks 41 of 108, (\d:\d\d), 1:\d\d left", row)
    }
    assert len(seen) > 1, "the row does not move"
    assert any("1.00 MiB of 2.00 MiB" in row for row in rows)
    assert any(re.search(r"a step with a very lo… .*0:00", row) for row in rows)
    assert any(re.fullmatch(r"verify \d:\d\d  role limits", row) for row in rows)


def test_a_log_has_a_line_a_step_and_one_clock(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WORKS, str(remembering(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    clocks = re.findall(r"(?m)^.{7} (\d:\d\d)  ", ran.stderr)
    assert clocks == sorted(clocks) and clocks[-1] >= "0:03"
    assert re.sub(r"(?m)^(.{7}) \d:\d\d  ", r"\1 0:01  ", ran.stderr).splitlines() == LINES


def test_steps_within_others_are_no_phases(tmp_path: Path) -> None:
    """Their seconds would count twice."""
    progress = Progress.of("bake", "x", CachePaths(tmp_path))
    with progress.step("build hnswlib"):
        for name in ("toolchain", "compile hnswlib"):
            progress.relay({"kind": "step", "name": name})
            progress.relay({"kind": "done", "name": name, "seconds": 2.0})
    with progress.step("disk"):
        pass
    assert list(progress.phases) == ["build hnswlib", "disk"]
    assert list(progress.timings) == ["toolchain", "compile hnswlib", "build hnswlib", "disk"]


def test_how_far_a_bake_is(tmp_path: Path) -> None:
    step = BakeStep(
        name="limits+seal",
        key="b" * 64,
        view="step-0",
        variables=tmp_path,
        installs=True,
        replaces=[],
    )
    plan = BakePlan.model_construct(
        work=tmp_path / "work", layers=tmp_path / "layers", base_key="a" * 64, steps=[step]
    )
    upper = tmp_path / "work/layer/upper"
    assert how_far.of_bake(plan, {}, "limits+seal") is None, "nothing is there yet"
    info = "var/lib/dpkg/info"
    write(upper, {f"{info}/one.list": "", f"{info}/two.list": ""})
    assert how_far.of_bake(plan, {"limits+seal": 9}, "limits+seal") == (2, 9, "packages")
    (upper / "opt/ml/ml/lib/python3.13/site-packages/numpy-2.dist-info").mkdir(parents=True)
    assert how_far.of_bake(plan, {"limits+seal": 9}, "limits+seal") == (1, 0, "Python packages")
    base = f"layers/{'a' * 64}.part/upper/root.7.part"
    write(tmp_path, {f"{base}/{info}/dpkg.list": ""})
    assert how_far.of_bake(plan, {"base": 80}, "base") == (1, 80, "packages")
    assert how_far.of_bake(plan, {}, "disk") is None
