"""Finds the program's own files: roles, checks and tables. A clone of goldenami has them beside its
definitions. Any other repository uses those of the installed package, and adds its own."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path

import goldenami
from goldenami.core import yaml_lines
from goldenami.core.yaml_lines import YamlFile

_PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = next(filter(Path.is_dir, [_PACKAGE / "data"]), _PACKAGE.parents[1])
"""Root of the running program's files: the data of an installed package, else the clone."""
PLAYBOOK = "ansible/bake.yml"
"""A folder with this file is a clone of goldenami."""
_INPUTS = {"definition": "packer/images", "hardware": "packer/hardware.yml", "ansible": PLAYBOOK}
"""Files of those inputs of a lock whose names are no paths."""
ROLES, CHECKS, FILES = "roles", "tests/image", "files"
COLLECTIONS = "collections"
"""Folder of a repository's Ansible collections. `ansible-galaxy collection install -p collections`
puts them there, from a file, a git repository or Galaxy."""
CUSTOMIZE, FRAMEWORKS = "customize", "frameworks"
"""The two roles to which a repository may add files: for `customize` files that get into the image,
for `frameworks` recipes."""
LINKED = "linked"
"""Folder below a work folder with links, for files of the program and of the repository that a run
needs in one place."""


def home(root: Path) -> Path:
    """Return the folder with the program's files for the repository `root`."""
    return root if (root / PLAYBOOK).is_file() else INSTALLED


def find(root: Path, name: str) -> Path:
    """Return the repository's own file or folder `name`, else the program's."""
    return root / name if (root / name).exists() else home(root) / name


def table(root: Path, name: str, depth: int = 1) -> YamlFile:
    """Return a program's table with the repository's rows added, which win. `depth` keys lead to a
    row."""
    program_table, own_table = home(root) / name, root / name
    merged = yaml_lines.load(program_table)
    if own_table == program_table or not own_table.is_file():
        return merged
    return merged.under(yaml_lines.load(own_table), depth)


def role(root: Path, name: str) -> Path:
    """Return the folder of a role: the repository's own, unless that only adds files to a role of
    the program; else that of a collection."""
    own_role, program_role = root / ROLES / name, home(root) / ROLES / name
    if program_role.is_dir() and _parts(own_role) <= {FILES}:
        return program_role
    if own_role.is_dir():
        return own_role
    for folder in collected_roles(root):
        if (folder / name).is_dir():
            return folder / name
    return own_role


def collected_roles(root: Path) -> list[Path]:
    """Return the folders with the roles of the repository's collections."""
    return sorted((root / COLLECTIONS / "ansible_collections").glob(f"*/*/{ROLES}"))


def roles(root: Path) -> set[str]:
    """Return the names of all roles."""
    names = set[str]()
    for folder in (home(root) / ROLES, root / ROLES, *collected_roles(root)):
        names |= {path.parent.name for path in folder.glob("*/tasks")}
    return names


def twice(root: Path, name: str) -> str:
    """Return the folder of a second role of that name, or "" if there is none."""
    places = dict.fromkeys([home(root) / ROLES, root / ROLES, *collected_roles(root)])
    role_folders = [folder / name for folder in places if (folder / name / "tasks").is_dir()]
    if len(role_folders) < 2:
        return ""
    return str(role_folders[1].relative_to(root))


def taken(root: Path, name: str) -> str:
    """Return the repository's folder of a role `name`, or of its checks, if the program has one of
    that name, too; else ""."""
    program = home(root)
    if program == root or not (program / ROLES / name).is_dir():
        return ""
    own_parts = {FILES} if name in (CUSTOMIZE, FRAMEWORKS) else set[str]()
    if not _parts(root / ROLES / name) <= own_parts:
        return f"{ROLES}/{name}"
    if _parts(root / CHECKS / name):
        return f"{CHECKS}/{name}"
    return ""


def role_files(root: Path, name: str) -> dict[Path, Path]:
    """Return a role's files by relative path, including those that the repository adds."""
    files = dict[Path, Path]()
    # In a clone the two are one folder.
    for folder in dict.fromkeys([role(root, name), root / ROLES / name]):
        for where, _, names in os.walk(folder):  # Path.rglob takes three times as long
            paths = [Path(where, name) for name in names]
            files |= {path.relative_to(folder): path for path in paths if path.is_file()}
    return dict(sorted(files.items()))


def own_checks(root: Path, name: str) -> dict[Path, Path]:
    """Return the files of the repository's own checks of a role or an image, by relative path.
    Those of the program are part of it, as its code is."""
    folder = root / CHECKS / name
    if home(root) == root:
        return {}
    return {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}


def by_owner(root: Path, inputs: Iterable[str]) -> str:
    """Return text that names a lock's inputs. If the repository is no clone, those of the program
    follow apart, with its version."""
    own_inputs, program_inputs = list[str](), list[str]()
    for name in inputs:
        path = find(root, _INPUTS.get(name, name))
        folder, _, role_name = name.partition("/")
        if folder == ROLES and "/" not in role_name:
            path = role(root, role_name)
        is_of_program = path.is_relative_to(INSTALLED)
        if is_of_program and home(root) != root:
            program_inputs.append(name)
        else:
            own_inputs.append(name)
    parts = list[str]()
    if own_inputs:
        parts.append(", ".join(own_inputs))
    if program_inputs:
        parts.append(f"{', '.join(program_inputs)} of goldenami {goldenami.__version__}")
    return "; ".join(parts)


def roles_path(root: Path, work: Path) -> str:
    """Return the value of ANSIBLE_ROLES_PATH. For a program's role to which the repository adds
    files, makes a folder of links in `work`."""
    program_roles, collected = home(root) / ROLES, collected_roles(root)
    if program_roles == root / ROLES:
        return ":".join(map(str, (program_roles, *collected)))
    for path in (root / ROLES).glob(f"*/{FILES}"):
        name = path.parent.name
        if role(root, name) == program_roles / name:
            linked, parts = work / LINKED / ROLES / name, _paths(program_roles / name)
            files = {**_paths(program_roles / name / FILES), **_paths(path)}
            del parts[FILES]
            _link(linked, parts)
            _link(linked / FILES, files)
    return ":".join(map(str, (work / LINKED / ROLES, program_roles, root / ROLES, *collected)))


def checks(root: Path, names: Iterable[str], work: Path) -> Path:
    """Return the folder with the checks of the roles. If the repository is no clone, it is made of
    links in `work`."""
    if home(root) == root:
        return root / CHECKS
    folder = work / LINKED / CHECKS
    # pytest needs its configuration beside the checks.
    shared = {name: home(root) / CHECKS / name for name in ("conftest.py", "pytest.ini")}
    role_checks = {name: find(root, f"{CHECKS}/{name}") for name in names}
    _link(folder, {**shared, **role_checks})
    return folder


def idle_checks(root: Path, names: Container[str]) -> list[Path]:
    """Return the files and folders with checks that nothing runs, because they are named as none of
    the roles and images `names`."""
    return [
        path
        for path in sorted(_paths(root / CHECKS).values())
        if path.name not in names and (path.match("test_*.py") or any(path.rglob("test_*.py")))
    ]


def _parts(folder: Path) -> set[str]:
    return set(_paths(folder))


def _paths(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.name: path for path in folder.iterdir()}


def _link(folder: Path, targets: dict[str, Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
