"""The initial files of a repository of images, and of a role in one: the folders beside this
module, copied with the names filled in."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import goldenami
from goldenami.core import process, records, shell
from goldenami.core.errors import BadInput, Unreachable
from goldenami.model import program_files
from goldenami.model.roles import role_order

_HERE = Path(__file__).parent
_HIDDEN, _TEMPLATE = "dot_", ".in"
"""Prefix of a file whose name gets a dot in its place; suffix of a file that would be taken for a
page or a module here."""
_CI = (".github/", ".gitlab")
_THEIRS = ("README.md", ".gitignore", ".gitattributes", ".gitlab-ci.yml")
"""Files that a repository has of its own: what is there stays."""
_ROLE = "new_role"
"""The name of the role that is copied; the new role's name replaces it."""


def write_repository(folder: Path) -> dict[Path, list[str]]:
    """Fill `folder`, which may have other files or be a part of a git repository. Returns the files
    of `_THEIRS` that are there, each with the lines that it lacks. Raises BadInput, before anything
    is written, if another one is there or the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made: {os.strerror(error.errno or 0).lower()}",
            hint="name a folder that is not there yet, or one of your repository",
        ) from None
    home = folder.resolve()
    top = next((path for path in (home, *home.parents) if (path / ".git").exists()), home)
    below = "" if top == home else f"{home.relative_to(top)}/"
    words = {
        "@VERSION@": goldenami.__version__,
        "@NAME@": home.name,
        "@FOLDER@": below,
        "@CI@": re.sub(r"[^\w-]+", "-", below.strip("/")) or "images",
    }
    # Servers look for CI at the top of a git repository.
    texts = {
        (top if name.startswith(_CI) else home) / name: text
        for name, text in _filled("repository", words).items()
    }
    kept = {path: _lacking(path, text) for path, text in texts.items() if _stays(path)}
    if taken := sorted(str(path.relative_to(top)) for path in texts.keys() - kept if _taken(path)):
        raise BadInput(
            f"{top} has {', '.join(taken)} already: nothing is written",
            hint="move them, or take a folder below, such as `golden init images`",
        )
    with process.scratch() as work:
        wheel = _wheel(Path(work))
        of_wheel = {"@WHEEL@": wheel.name, "@SHA256@": records.sha256_file(wheel)}
        for path in texts.keys() - kept:
            records.write_text(path, _fill(texts[path], of_wheel))
        shutil.copy(wheel, home / "wheels")
    return kept


def _stays(path: Path) -> bool:
    return path.name in _THEIRS and path.is_file()


def _lacking(path: Path, text: str) -> list[str]:
    """The lines of `text` that the file at `path` should have and has not; of a page none."""
    if not _stays(path) or path.suffix == ".md":
        return []
    present = {"", *path.read_text(encoding="utf-8").splitlines()}
    return [line for line in text.splitlines() if line not in present and line[0] != "#"]


def _taken(path: Path) -> bool:
    """Whether something else is at `path`, or a file in place of a folder above it."""
    return os.path.lexists(path) or any(
        above.exists() and not above.is_dir() for above in path.parents
    )


def _wheel(work: Path) -> Path:
    """The wheel of this program, by pip: built from the clone or folder that it was installed from,
    else the file that it was installed from, or the index's of this version."""
    # A repository installs this wheel by its SHA-256: an index might offer another under the name.
    # pip's build tools are fetched by their hashes, too.
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
    """The argument of `pip wheel` that makes the wheel of this program."""
    clone = program_files.INSTALLED
    if (clone / "scripts" / goldenami.__name__).is_dir():
        return str(clone)
    # pip writes direct_url.json for an install from a file or a folder, none for one from an index
    # (PEP 610).
    install_record = metadata.distribution(goldenami.__name__).read_text("direct_url.json")
    url = urlsplit(json.loads(install_record or "{}").get("url", ""))
    path = Path(unquote(url.path))
    if url.scheme == "file" and path.exists():
        return str(path)
    return f"{goldenami.__name__}=={goldenami.__version__}"


def write_role(root: Path, name: str) -> list[Path]:
    """Write the role `name` into the repository `root`, with its check and its scenario. Returns
    their folders. Raises BadInput for an invalid or taken name."""
    if not role_order.NAME.fullmatch(name):
        raise BadInput(
            f"`{name}` is no name for a role: small letters, digits and `_`",
            hint="as its variables begin, such as company_agent",
        )
    folders = [
        Path(folder, name) for folder in (program_files.ROLES, program_files.CHECKS, "molecule")
    ]
    if name in role_order.known(root):
        owner = ", which is goldenami's"
        if name in program_files.roles(root) and (root / folders[0]).is_dir():
            owner = ""
        raise BadInput(f"there is a role {name}{owner}", hint="take another name")
    if existing := [path for path in folders if (root / path).exists()]:
        raise BadInput(f"{existing[0]} is there already", hint="remove it, or take another name")
    images = sorted(path.stem for path in (root / "packer/images").glob("*.yml"))
    words = {_ROLE: name, "@IMAGE@": images[0] if images else "IMAGE"}
    for path, text in _filled("role", words).items():
        records.write_text(root / path, text)
    return folders


def _filled(template: str, words: dict[str, str]) -> dict[str, str]:
    """Return the files of `template` by their names, with `words` replaced in both."""
    texts = dict[str, str]()
    for path in sorted((_HERE / template).rglob("*")):
        if path.is_file():
            name = str(path.relative_to(_HERE / template)).replace(_HIDDEN, ".")
            texts[_fill(name.removesuffix(_TEMPLATE), words)] = _fill(
                path.read_text(encoding="utf-8"), words
            )
    return texts


def _fill(text: str, words: dict[str, str]) -> str:
    pattern = "|".join(map(re.escape, words))
    return re.sub(pattern, lambda match: words[match[0]], text)
