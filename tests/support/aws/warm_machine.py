"""What runs on a machine that a hub keeps warm: jupyter-machine of the image up to its user, then a
notebook server at the same address.

`python -m support.aws.warm_machine ADDRESS FOLDER`; the folder has the files of the machine's user
data.
"""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.aws.hub import Notebook
from support.builds.tools import ROOT
from support.programs import load


def main(address: str, folder: Path) -> None:
    """Wait for a user, then serve."""
    program: Any = load(ROOT / "roles/jupyterhub/files/jupyter-machine", "jupyter_machine")
    program.ETC, program.LISTEN = folder, (address, 8888)
    program.read()
    ThreadingHTTPServer(program.LISTEN, Notebook).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
