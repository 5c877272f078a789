"""Rules of text: sizes, names and paths of this machine, secrets, documentation, commits."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.core import shell

from support import trees

ENVIRONMENT = "scripts/goldenami/core/environment.py"
PINNED = re.compile(r"image: [\w./-]+(:[\w.-]+)?@sha256:[0-9a-f]{64} # \S+$")
STORED_KEY = re.compile(r"aws[-_](access[-_]key|secret)|AKIA[0-9A-Z]{16}", re.IGNORECASE)
LINES = {
    "roles/*/[!v]*/**/*.yml": 60,
    "roles/*/vars/*.yml": 100,
    "packer/images/*.yml": 60,
    "*/README.md": 30,
    "roles/*/README.md": 30,
    "README.md": 130,
    "ARCHITECTURE.md": 200,
    "docs/**/*.md": 150,
}
MAKE_TARGETS = 24


def sizes(root: Path) -> list[str]:
    """No text is longer than its kind may be."""
    known = set(trees.files(root)) - {root / trees.GENERATED}
    return [
        f"{path.relative_to(root)}: {lines} lines, at most {limit}"
        for pattern, limit in LINES.items()
        for path in trees.glob(root, pattern)
        if path in known and (lines := len(trees.read(path).splitlines())) > limit
    ]


def machine_hosts() -> list[str]:
    """Hosts of this machine's package mirrors: of the distribution's own archives in apt, and of
    pip.

    A vendor's repository that this machine also uses is no mirror, and its address may stand in a
    role.
    """
    uris = list[str]()
    if Path("/usr/bin/apt-get").exists():
        said = shell.output(
            [
                "apt-get",
                "indextargets",
                "--format",
                "$(ORIGIN)|$(REPO_URI)",
                "Created-By: Packages",
            ],
            check=False,
        )
        uris += re.findall(r"^(?:Debian|Ubuntu)[^|]*\|(.*)", said, re.MULTILINE)
    uris += re.findall(
        r"https?://\S+", shell.output([sys.executable, "-m", "pip", "config", "list"], check=False)
    )
    uris += [
        value
        for name, value in os.environ.items()
        if name.startswith("GOLDEN_MIRROR_") or name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
    ]
    hosts = {(urlsplit(uri.strip("'\"")).hostname or "") for uri in uris}
    return sorted(host for host in hosts if "." in host and not host.startswith("127."))


def mirror_hosts(root: Path, hosts: Iterable[str]) -> list[str]:
    """No file names a host that this machine gets packages from."""
    return [
        f"{path.relative_to(root)} names the mirror {host}"
        for path, text in trees.texts(root)
        for host in hosts
        if re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", text)
    ]


STOCK_USERS = ("debian", "ubuntu", "admin", "litter")
"""Users of the distributions' images, and the one whose home the seal's scenario litters."""


def machine_paths(root: Path, checkout: Path, home: Path) -> list[str]:
    """No file holds the path of a checkout or of a person's home (root's and a stock user's are
    none)."""
    stock = "|".join(STOCK_USERS)
    personal = [
        re.escape(str(checkout)),
        rf"/home/(?!({stock})\b)[a-z]\w*(?=/|\b)",
        r"/Users/\w+(?=/)",
    ]
    if home != Path("/root"):
        personal.append(re.escape(str(home)))
    pattern = re.compile(rf"(?<![\w.*}}/-])({'|'.join(personal)})(?![\w-])")
    return [
        f"{path.relative_to(root)} holds the path {found[0]}"
        for path, text in trees.texts(root)
        if (found := pattern.search(text))
    ]


def variables(root: Path) -> list[str]:
    """Each GOLDEN_ variable of scripts/ is in core/environment.py (`GOLDEN_X_<NAME>` is a
    family)."""
    known = re.findall(r"GOLDEN_\w+", trees.read(root / ENVIRONMENT))
    families = tuple(name for name in known if name.endswith("_")) or "-"
    return [
        f"{name} ({path.relative_to(root)}) is not in {ENVIRONMENT}"
        for path, text in trees.texts(root)
        if path.is_relative_to(root / "scripts")
        for name in sorted(set(re.findall(r"\bGOLDEN_\w*[A-Z]\b", text)))
        if name not in known and not f"{name}_".startswith(families)
    ]


def make_targets(root: Path) -> list[str]:
    """Every Make target has a help text, and there are at most 24."""
    text = trees.read(root / "Makefile")
    targets = re.findall(r"^([a-z][\w%-]*):(?!=)(.*)$", text, re.MULTILINE)
    problems = [
        f"make {name} has no help text" for name, rest in targets if not re.search(r"## \S", rest)
    ]
    if len(targets) > MAKE_TARGETS:
        problems.append(f"{len(targets)} Make targets, at most {MAKE_TARGETS}")
    return problems


def module_map(root: Path) -> list[str]:
    """ARCHITECTURE.md's map has every room and every folder within one."""
    text, scripts = trees.read(root / "ARCHITECTURE.md"), root / "scripts"
    folders = {str(path.parent.relative_to(scripts)) for path in trees.product(root)}
    # Folders of goldenami itself stand there without its name.
    names = {folder.removeprefix("goldenami/") for folder in folders} - {"goldenami"}
    return [
        f"ARCHITECTURE.md does not say what {name}/ is for"
        for name in sorted(names)
        if f"`{name}/`" not in text
    ]


def pipelines(root: Path) -> list[str]:
    """CI definitions name an image that others made by its content, with the version for a reader,
    and store no key of AWS: a step of the same job exchanges a token for one."""
    paths = [root / ".gitlab-ci.yml", *trees.glob(root, ".github/workflows/*.yml")]
    lines = [
        line.strip().removeprefix("- ") for path in paths for line in trees.read(path).splitlines()
    ]
    unpinned = [
        f"`{line}` is not pinned"
        for line in lines
        if re.match(r"image: [^$]", line) and not PINNED.fullmatch(line)
    ]
    return unpinned + [
        f"a stored key: `{line}`"
        for line in lines
        if STORED_KEY.search(line) and "${{ steps." not in line
    ]


def commit_subjects(subjects: Iterable[str]) -> list[str]:
    """`area: Imperative`, without a full stop, of at most 100 characters; git's own merges and
    reverts are exempt."""
    # The ending of a verb of one syllable, such as Bring or Feed, has no vowel before it.
    form = re.compile(
        r"[a-z][a-z0-9_./-]*(, [a-z][a-z0-9_./-]*)*: "
        r"(?!\w*[aeiouyAEIOU]\w*(?<!e)(ed|ing)\b)[A-Z].{2,}(?<!\.)"
    )
    return [
        f"`{subject}` is not `area: Imperative`"
        for subject in subjects
        if not subject.startswith(("Merge ", "Revert "))
        and not (form.fullmatch(subject) and len(subject) <= 100)
    ]
