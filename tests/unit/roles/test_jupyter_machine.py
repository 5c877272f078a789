"""A hub's machine brings back what its user kept before the notebook server starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builds.tools import ROOT
from support.programs import load

PROGRAM = load(ROOT / "roles/jupyterhub/files/jupyter-machine", "jupyter_machine")


@pytest.mark.parametrize(
    ("place", "golden_keep", "said", "warning"),
    [
        ("s3://acme-keep/vision", 'echo "$@"; ls $HOME', "restore --wait 60\nkeep\n", ""),
        ("s3://acme-keep/vision", "exit 1", "", "returned non-zero exit status 1"),
        ("s3://acme-keep/vision", "", "", "No such file or directory: 'golden-keep'"),
        ("", "echo restored", "", ""),
        (None, "echo restored", "", ""),
    ],
)
def test_a_restore_that_fails_is_a_line_in_the_journal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    place: str | None,
    golden_keep: str,
    said: str,
    warning: str,
) -> None:
    home, programs, told = tmp_path / "home", tmp_path / "bin", tmp_path / "place"
    home.mkdir()
    programs.mkdir()
    if golden_keep:
        program = programs / "golden-keep"
        program.write_text(f"#!/bin/sh\n{golden_keep}\n", encoding="utf-8")
        program.chmod(0o755)
    if place is not None:
        told.write_text(place, encoding="utf-8")
    monkeypatch.setattr(PROGRAM, "PLACE", told)
    PROGRAM.restore({"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home)})
    answer = capfd.readouterr()
    assert answer.out == said
    assert warning in answer.err and answer.err.count("\n") == bool(warning)
