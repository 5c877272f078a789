"""A hub's machine brings back what its user kept before the notebook server starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builds.tools import ROOT
from support.programs import load

PROGRAM = load(ROOT / "roles/jupyterhub/files/jupyter-machine", "jupyter_machine")


@pytest.mark.parametrize(
    ("golden_keep", "warning"),
    [
        ("echo restored $2 $3 to $HOME", ""),
        ("exit 1", "returned non-zero exit status 1"),
        (None, "No such file or directory: 'golden-keep'"),
    ],
)
def test_a_restore_that_fails_is_a_line_in_the_journal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], golden_keep: str | None, warning: str
) -> None:
    if golden_keep:
        program = tmp_path / "golden-keep"
        program.write_text(f"#!/bin/sh\n{golden_keep}\n", encoding="utf-8")
        program.chmod(0o755)
    PROGRAM.restore({"PATH": str(tmp_path), "HOME": "/home/ann"})
    said = capfd.readouterr()
    assert said.out == ("" if warning else "restored --wait 60 to /home/ann\n")
    assert warning in said.err and said.err.count("\n") == bool(warning)
