"""Rules of text: sizes, machine names and paths, documentation."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.core import shell

from support.rules import trees

ENVIRONMENT = "scripts/goldenami/core/environment.py"
ROLE_LINES, VARS_LINES, IMAGE_LINES, README_LINES, MAKE_TARGETS = 60, 100, 60, 30, 24


def sizes(root: Path) -> list[str]:
    """Role YAML and image definitions of at most 60 lines, tables of a role's names 100; READMEs of
    at most 30."""
    limits = [("roles/*/[!v]*/**/*.yml", ROLE_LINES), ("roles/*/vars/*.yml", VARS_LINES),
              ("packer/images/*.yml", IMAGE_LINES), ("*/README.md", README_LINES),
              ("roles/*/README.md", README_LINES)]
    known = set(trees.files(root))
    return [f"{path.relative_to(root)}: {lines} lines, at most {limit}" for pattern, limit in limits
            for path in trees.glob(root, pattern) if path in known
            and (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit]


def machine_hosts() -> list[str]:
    """Hosts of this machine's package mirrors: of the distribution's own archives in apt, and of
    pip.

    A vendor's repository that this machine also uses is no mirror, and its address may stand in a
    role.
    """
    uris = [line.partition("|")[2] for line in _apt_sources()
            if line.startswith(("Debian", "Ubuntu"))]
    uris += re.findall(r"https?://\S+", _pip_configuration())
    uris += [value for name, value in os.environ.items()
             if name.startswith("GOLDEN_MIRROR_")
             or name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")]
    hosts = {(urlsplit(uri.strip("'\"")).hostname or "") for uri in uris}
    return sorted(host for host in hosts if "." in host and not host.startswith("127."))


@cache
def _apt_sources() -> list[str]:
    if not Path("/usr/bin/apt-get").exists():
        return []
    argv = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"]
    return shell.output(argv, check=False).splitlines()


@cache
def _pip_configuration() -> str:
    return shell.output([sys.executable, "-m", "pip", "config", "list"], check=False)


def mirror_hosts(root: Path, hosts: Iterable[str]) -> list[str]:
    """No file names a host that this machine gets packages from."""
    return [f"{path.relative_to(root)} names the mirror {host}" for path, text in trees.texts(root)
            for host in hosts if re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", text)]


STOCK_USERS = ("debian", "ubuntu", "admin", "litter")
"""Users of the distributions' images, and the one whose home the seal's scenario litters."""


def machine_paths(root: Path, checkout: Path, home: Path) -> list[str]:
    """No file holds the path of a checkout or of a person's home (root's and a stock user's are
    none)."""
    stock = "|".join(STOCK_USERS)
    personal = [re.escape(str(checkout)), rf"/home/(?!({stock})\b)[a-z]\w*(?=/|\b)",
                r"/Users/\w+(?=/)"]
    if home != Path("/root"):
        personal.append(re.escape(str(home)))
    pattern = re.compile(rf"(?<![\w.*}}/-])({'|'.join(personal)})(?![\w-])")
    return [f"{path.relative_to(root)} holds the path {found[0]}"
            for path, text in trees.texts(root)
            if (found := pattern.search(text))]


def variables(root: Path) -> list[str]:
    """Each GOLDEN_ variable that code reads or sets is in core/environment.py (`GOLDEN_X_<NAME>` is
    a family)."""
    table = trees.read(root / ENVIRONMENT)
    families = tuple(re.findall(r"(GOLDEN_[A-Z_]+_)<", table))
    known = set(re.findall(r"GOLDEN_[A-Z_]*[A-Z]\b", table))
    used: dict[str, Path] = {}
    for path, text in trees.texts(root):
        name = path.relative_to(root)
        if path.suffix == ".md" or name.parts[:2] in (("tests", "unit"), ("tests", "contract")):
            continue
        for variable in re.findall(r"\bGOLDEN_[A-Z_]*[A-Z]\b", text):
            used.setdefault(variable, name)
    return [f"{variable} ({where}) is not in {ENVIRONMENT}"
            for variable, where in sorted(used.items())
            if variable not in known and not variable.startswith(families or ("\0",))
            and f"{variable}_" not in families]


def make_targets(root: Path) -> list[str]:
    """Every Make target has a help text, and there are at most 24."""
    text = trees.read(root / "Makefile")
    targets = re.findall(r"^([a-z][\w%-]*):(?!=)(.*)$", text, re.MULTILINE)
    problems = [f"make {name} has no help text" for name, rest in targets
                if not re.search(r"## \S", rest)]
    return problems + ([f"{len(targets)} Make targets, at most {MAKE_TARGETS}"] if len(targets)
                       > MAKE_TARGETS else [])


def module_map(root: Path) -> list[str]:
    """ARCHITECTURE.md's map has every room and every folder within one."""
    package, text = root / "scripts/goldenami", trees.read(root / "ARCHITECTURE.md")
    folders = {str(path.parent.relative_to(package)) for path in trees.glob(package, "**/*.py")} - {
        "."
    }
    return [f"ARCHITECTURE.md does not say what {name}/ is for" for name in sorted(folders)
            if f"`{name}/`" not in text]
