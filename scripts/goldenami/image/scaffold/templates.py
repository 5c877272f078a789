"""The files that a repository of images, and a role in one, begin with: the folders beside this
module, copied with the names put in."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import goldenami
from goldenami.core import records, shell
from goldenami.core.errors import BadInput, Unreachable
from goldenami.model import program_files
from goldenami.model.roles import role_order

_HERE = Path(__file__).parent
_HIDDEN, _TEMPLATE = "dot_", ".in"
"""Begins the name of a file that begins with a dot where it goes; ends that of one which here would
be taken for a page or a module."""
_ROLE = "new_role"
"""The name of the role that is copied."""


def write_repository(folder: Path) -> None:
    """Fill `folder`, which does not exist or is empty; BadInput where it holds anything, or cannot
    be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wrong = "is not empty" if any(folder.iterdir()) else ""
    except OSError as error:
        wrong = f"cannot be made: {os.strerror(error.errno or 0).lower()}"
    if wrong:
        raise BadInput(f"{folder} {wrong}", hint="name a folder that is not there yet")
    with tempfile.TemporaryDirectory(prefix="golden-init-") as work:
        wheel = _wheel(Path(work))
        _copy(
            "repository",
            folder,
            {
                "@VERSION@": goldenami.__version__,
                "@NAME@": folder.resolve().name,
                "@WHEEL@": wheel.name,
                "@SHA256@": records.sha256_file(wheel),
            },
        )
        shutil.copy(wheel, folder / "wheels")


def _wheel(work: Path) -> Path:
    """The wheel of this program, by pip: made in a clone or a folder that it was installed from,
    else the file that it was installed from, or the index's of this version.

    A repository installs that file by its SHA-256: of a name alone an index might offer another.
    """
    # What makes a wheel is fetched by its own hash, too.
    pins = program_files.INSTALLED / "requirements/test.txt"
    argv = shell.python_argv(
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--build-constraint",
        str(pins),
        "--wheel-dir",
        str(work),
        _source(),
    )
    try:
        shell.output(argv, env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    except shell.CommandFailed as error:
        raise Unreachable(
            "pip could not make or fetch the wheel of goldenami",
            tail=error.tail,
            hint="its lines above say why; it needs the Python package index",
        ) from None
    return next(work.glob("*.whl"))


def _source() -> str:
    """What `pip wheel` makes the wheel of this program from."""
    clone = program_files.INSTALLED
    if (clone / "scripts" / goldenami.__name__).is_dir():
        return str(clone)
    said = metadata.distribution(goldenami.__name__).read_text("direct_url.json")
    url = urlsplit(json.loads(said or "{}").get("url", ""))
    path = Path(unquote(url.path))
    is_there = url.scheme == "file" and path.exists()
    return str(path) if is_there else f"{goldenami.__name__}=={goldenami.__version__}"


def write_role(root: Path, name: str) -> list[Path]:
    """Write the role `name` into the repository `root`, with its check and its scenario; returns
    their folders. BadInput for a name that is taken or none."""
    if not role_order.NAME.fullmatch(name):
        raise BadInput(
            f"`{name}` is no name for a role: small letters, digits and `_`",
            hint="as its variables begin, such as company_agent",
        )
    folders = [
        Path(folder, name) for folder in (program_files.ROLES, program_files.CHECKS, "molecule")
    ]
    if name in role_order.known(root):
        whose = (
            ""
            if name in program_files.roles(root) and (root / folders[0]).is_dir()
            else ", which is goldenami's"
        )
        raise BadInput(f"there is a role {name}{whose}", hint="take another name")
    if there := [each for each in folders if (root / each).exists()]:
        raise BadInput(f"{there[0]} is there already", hint="remove it, or take another name")
    images = sorted(path.stem for path in (root / "packer/images").glob("*.yml"))
    _copy("role", root, {_ROLE: name, "@IMAGE@": images[0] if images else "IMAGE"})
    return folders


def _copy(template: str, folder: Path, words: dict[str, str]) -> None:
    pattern = re.compile("|".join(map(re.escape, words)))

    def said(text: str) -> str:
        return pattern.sub(lambda found: words[found[0]], text)

    for path in sorted((_HERE / template).rglob("*")):
        if path.is_file():
            name = str(path.relative_to(_HERE / template)).replace(_HIDDEN, ".")
            name = said(name.removesuffix(_TEMPLATE))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            records.write_text(folder / name, said(path.read_text(encoding="utf-8")))
