"""Commands of an installed package that is not goldenami's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.builds.tools import ROOT
from support.files import write


def test_an_installed_package_adds_commands(tmp_path: Path) -> None:
    """By an entry point, into an area of its own or into another one."""
    write(
        tmp_path,
        {
            "added-1.dist-info/METADATA": "Name: added\nVersion: 1\n",
            "added-1.dist-info/entry_points.txt": "[goldenami.commands]\nadded = added.commands\n",
            "added/__init__.py": "",
            "added/commands/__init__.py": (
                "AREAS = {'Greetings': {'greet': 'spoken'}, 'Accounts': {'leave': 'spoken'}}\n"
                "CONTINUED = frozenset()\n"
            ),
            "added/commands/spoken.py": (
                "def cmd_greet(checkout):\n    'Greet.'\n    print('hello')\n    return 0\n\n"
                "def cmd_leave(checkout):\n    'Say goodbye.'\n"
            ),
        },
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{tmp_path}"}
    greeting, page = (
        subprocess.run(
            [sys.executable, "-m", "goldenami.cli", word],
            cwd=ROOT,
            env=env,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        for word in ("greet", "help")
    )
    assert greeting == "hello\n"
    assert "Greetings:\n  greet  Greet.\n" in page
    assert re.search(r"^  leave +Say goodbye\.$", page, re.MULTILINE)
