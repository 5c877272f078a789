"""Where the program's own files are. A clone of goldenami has them beside its definitions. Any
other repository takes those of the installed package, and has roles, checks and tables of its own
beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import goldenami
from goldenami.core import yaml_lines
from goldenami.core.yaml_lines import YamlFile

_PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = next(filter(Path.is_dir, [_PACKAGE / "data"]), _PACKAGE.parents[1])
"""The files of the program that runs: in a wheel data of the package, else the clone that it is
in."""
PLAYBOOK = "ansible/bake.yml"
"""The file by which a clone is known."""
_INPUTS = {"definition": "packer/images", "hardware": "packer/hardware.yml", "ansible": PLAYBOOK}
"""What an input of a lock is made of, where its name is no folder."""
ROLES, CHECKS, FILES = "roles", "tests/image", "files"
COLLECTIONS = "collections"
"""Where a repository has collections of Ansible: `ansible-galaxy collection install -p collections`
puts them there, from a file, a git repository or Galaxy."""
CUSTOMIZE, FRAMEWORKS = "customize", "frameworks"
"""The roles to which a repository adds files: its own, that the role brings into an image, and its
recipes."""
LINKED = "linked"
"""Below a work folder: what a run finds in one place, though it lies in two."""


def home(root: Path) -> Path:
    """The folder that has the program's files for the repository `root`."""
    return root if (root / PLAYBOOK).is_file() else INSTALLED


def find(root: Path, name: str) -> Path:
    """The repository's own, else the program's."""
    return root / name if (root / name).exists() else home(root) / name


def table(root: Path, name: str, depth: int = 1) -> YamlFile:
    """A program's table with the repository's rows, which win. `depth` keys lead to a row."""
    given, own = home(root) / name, root / name
    found = yaml_lines.load(given)
    is_added = own != given and own.is_file()
    return found.with_rows(yaml_lines.load(own), depth) if is_added else found


def role(root: Path, name: str) -> Path:
    """The repository's own folder, unless it only adds files to a role of the program's."""
    own, given = root / ROLES / name, home(root) / ROLES / name
    if given.is_dir() and _parts(own) <= {FILES}:
        return given
    collected = [folder / name for folder in collected_roles(root) if (folder / name).is_dir()]
    return own if own.is_dir() or not collected else collected[0]


def collected_roles(root: Path) -> list[Path]:
    """The folders with the roles of the repository's collections."""
    return sorted((root / COLLECTIONS / "ansible_collections").glob(f"*/*/{ROLES}"))


def roles(root: Path) -> set[str]:
    """The names of all roles."""
    folders = (home(root) / ROLES, root / ROLES, *collected_roles(root))
    return {path.parent.name for folder in folders for path in folder.glob("*/tasks")}


def twice(root: Path, name: str) -> str:
    """The folder of a second role of that name; "" where there is none."""
    places = dict.fromkeys([home(root) / ROLES, root / ROLES, *collected_roles(root)])
    found = [folder / name for folder in places if (folder / name / "tasks").is_dir()]
    return str(found[1].relative_to(root)) if found[1:] else ""


def taken(root: Path, name: str) -> str:
    """The repository's folder that the program has, too: a role `name` or its checks; or ""."""
    given = home(root)
    if given != root and (given / ROLES / name).is_dir():
        mine = {
            f"{ROLES}/{name}": {FILES} if name in (CUSTOMIZE, FRAMEWORKS) else set[str](),
            f"{CHECKS}/{name}": set[str](),
        }
        return next((each for each in mine if not _parts(root / each) <= mine[each]), "")
    return ""


def role_files(root: Path, name: str) -> dict[Path, Path]:
    """By their place in the role, with those that the repository adds."""
    found = dict[Path, Path]()
    for folder in (role(root, name), root / ROLES / name):
        found |= {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(found.items()))


def by_owner(root: Path, inputs: Iterable[str]) -> str:
    """The names of a lock's inputs, the program's apart where the repository is no clone."""
    own, given = list[str](), list[str]()
    for name in inputs:
        is_given = find(root, _INPUTS.get(name, name)).is_relative_to(INSTALLED)
        (given if is_given and home(root) != root else own).append(name)
    theirs = [f"{', '.join(given)} of goldenami {goldenami.__version__}"] if given else []
    return "; ".join([*([", ".join(own)] if own else []), *theirs])


def roles_path(root: Path, work: Path) -> str:
    """ANSIBLE_ROLES_PATH. A role with files of the repository is a folder of links in `work`."""
    given, collected = home(root) / ROLES, collected_roles(root)
    if given == root / ROLES:
        return ":".join(map(str, (given, *collected)))
    for path in (root / ROLES).glob(f"*/{FILES}"):
        name = path.parent.name
        if role(root, name) == given / name:
            linked, parts = work / LINKED / ROLES / name, _paths(given / name)
            files = {**_paths(given / name / FILES), **_paths(path)}
            del parts[FILES]
            _link(linked, parts)
            _link(linked / FILES, files)
    return ":".join(map(str, (work / LINKED / ROLES, given, root / ROLES, *collected)))


def checks(root: Path, names: Iterable[str], work: Path) -> Path:
    """The folder with the checks of the roles; where the repository is no clone it is of links in
    `work`."""
    if home(root) == root:
        return root / CHECKS
    folder = work / LINKED / CHECKS
    shared = {name: home(root) / CHECKS / name for name in ("conftest.py", "pytest.ini")}
    found = {name: find(root, f"{CHECKS}/{name}") for name in names}
    _link(folder, {**shared, **found})
    return folder


def _parts(folder: Path) -> set[str]:
    return set(_paths(folder))


def _paths(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}


def _link(folder: Path, targets: dict[str, Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
