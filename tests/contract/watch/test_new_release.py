"""A release that goldenami has not heard of is one row, and its packages' names in roles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.builds.checkout import ROOT
from support.debian import debrepo
from support.debian.lock_commands import IMAGE, edit, lock_path

TABLE = "scripts/goldenami/model/supported/platforms.py"
ROW = (
    '    "forky": Platform("Debian", "14", (15, 2), date(2030, 8, 1), date(2032, 6, 30), '
    "images=True),\n"
)
FIRST = "RELEASES: Mapping[str, Platform] = {\n"


def golden(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "goldenami.cli", "--root", str(root), *args],
        text=True,
        capture_output=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "scripts"), "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.usefixtures("debian")
def test_a_new_release_is_one_row(
    root: Path,
    key: debrepo.Key,
    names: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(
        ROOT / "scripts",
        root / "scripts",
        ignore=shutil.ignore_patterns("__pycache__", "ec2_emulator"),
    )
    for facts in sorted(root.glob("roles/*/vars/Debian_13.yml")):
        shutil.copy(facts, facts.with_name("Debian_14.yml"))
    edit(root, "release: trixie", "release: forky")
    refused = golden(root, "check", IMAGE)
    assert (refused.returncode, "unknown release of debian `forky`" in refused.stderr) == (2, True)
    table = (root / TABLE).read_text(encoding="utf-8")
    assert FIRST in table
    (root / TABLE).write_text(table.replace(FIRST, f"{FIRST}{ROW}"), encoding="utf-8")
    served = debrepo.Mirror(debrepo.debian(tmp_path / "forky", key, names, "forky"))
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", f"{served.uri}/debian")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", f"{served.uri}/security")
    locked = golden(root, "lock", IMAGE)
    served.close()
    assert locked.returncode == 0, locked.stderr
    base = json.loads(lock_path(root).read_text(encoding="utf-8"))["base"]
    assert [base[name] for name in ("distribution", "release", "major")] == ["debian", "forky", 14]
    assert [suite["suite"] for suite in base["suites"]] == [
        "forky",
        "forky-security",
        "forky-updates",
    ]
    checked = golden(root, "check", IMAGE)
    assert (checked.returncode, "ended" in checked.stdout) == (0, False), checked.stdout
