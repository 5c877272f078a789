"""The rules of the repository's shape, as functions from a tree to the list of its violations.

`tests/unit/test_layout.py` holds this checkout to them, and feeds each a tree that breaks it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.core import shell

from support.rules import requirement_rules

TOP_FOLDERS = ("packer", "ansible", "roles", "molecule", "scripts", "requirements", "tests")
TOP_REQUIRED = frozenset({
    *TOP_FOLDERS, "Makefile", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE",
    "pyproject.toml", "ansible.cfg", ".ci", ".config", ".editorconfig", ".gitignore",
    ".pre-commit-config.yaml", ".yamllint", ".ansible-lint",
})
TOP_OPTIONAL = frozenset({".github", ".gitlab-ci.yml"})

ROOMS: tuple[frozenset[str], ...] = (
    frozenset({"core"}),
    frozenset({"packages"}),
    frozenset({"model"}),
    frozenset({"aws", "local"}),
    frozenset({"compilation"}),
    frozenset({"builders"}),
    frozenset({"lock", "bake", "verify", "publish", "lifecycle", "watch", "report"}),
    frozenset({"commands"}),
    frozenset({"cli"}),
)
"""The folders of the package, lowest first: a module imports from its own room and from lower rows. So no stage's
package imports another's, and a folder that is in no row is itself a violation."""

PYTHON_LINES, FUNCTION_LINES, ROLE_LINES, IMAGE_LINES, README_LINES, MAKE_TARGETS = 400, 40, 60, 60, 30, 25
_STARTERS = re.compile(r"^(subprocess\.\w+|os\.(system|popen|fork|forkpty|posix_spawnp?|spawn\w+)|pty\.(spawn|fork)"
                       r"|asyncio\.create_subprocess_\w+)$")
_EXEC = re.compile(r"^os\.exec\w+$")
_TYPES_OF_SUBPROCESS = {"Popen", "TimeoutExpired", "CompletedProcess", "CalledProcessError"}


def files(root: Path) -> list[Path]:
    """What git tracks or would track; in a tree without git every file."""
    if not (root / ".git").exists():
        return sorted(path for path in root.rglob("*") if path.is_file())
    text = shell.output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root)
    return sorted({root / name for name in text.split("\0") if name and (root / name).is_file()})


def _texts(root: Path) -> Iterator[tuple[Path, str]]:
    for path in files(root):
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _python(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in files(root):
        if path.suffix == ".py":
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def top_level(root: Path) -> list[str]:
    """The top level is exactly the fixed set."""
    found = {path.relative_to(root).parts[0] for path in files(root)}
    return [f"{name} does not belong at the top level" for name in sorted(found - TOP_REQUIRED - TOP_OPTIONAL)] + \
        [f"{name} is missing at the top level" for name in sorted(TOP_REQUIRED - found)]


# --- Python ---------------------------------------------------------------------------------------------------------

def _rooms(tree: ast.Module) -> set[str]:
    """Rooms of goldenami that a file imports from, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("goldenami.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "goldenami":
            inner = (node.module or "").split(".")[1:]
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
    return found


def _row(room: str) -> int | None:
    return next((index for index, rooms in enumerate(ROOMS) if room in rooms), None)


def imports(root: Path) -> list[str]:
    """Imports go one way, from a higher room to a lower one."""
    package, problems = root / "scripts/goldenami", []
    for path, tree in _python(root):
        if package not in path.parents or path == package / "__init__.py":
            continue
        room = path.relative_to(package).with_suffix("").parts[0]
        if (mine := _row(room)) is None:
            problems.append(f"{room} is no room: put it into ROOMS and into ARCHITECTURE.md")
            continue
        for other in sorted(_rooms(tree) - {room}):
            theirs = _row(other)
            if theirs is None or theirs >= mine:
                problems.append(f"{path.relative_to(package)} imports {other}, which is not below {room}")
    return problems


def emulator(root: Path) -> list[str]:
    """The product does not know the emulator."""
    package = root / "scripts/goldenami"
    return [f"{path.relative_to(root)} imports the emulator" for path, tree in _python(root) if package in path.parents
            for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
            and "ec2_emulator" in ast.unparse(node)]


def processes(root: Path) -> list[str]:
    """Only core/shell.py starts processes; join.py, which becomes one, may exec."""
    problems = []
    package = root / "scripts/goldenami"
    for path, tree in _python(root):
        if package not in path.parents or path == package / "core/shell.py":
            continue
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if _STARTERS.match(called) or (_EXEC.match(called) and path.name != "join.py"):
                problems.append(f"{path.relative_to(root)}:{node.lineno} calls {called}")  # type: ignore[attr-defined]
            if isinstance(node, ast.ImportFrom) and node.module == "subprocess":
                problems += [f"{path.relative_to(root)}:{node.lineno} imports {alias.name} from subprocess"
                             for alias in node.names if alias.name not in _TYPES_OF_SUBPROCESS]
    return problems


def boto3(root: Path) -> list[str]:
    """Only aws/ knows boto3."""
    package, problems = root / "scripts/goldenami", []
    for path, tree in _python(root):
        if package not in path.parents or package / "aws" in path.parents:
            continue
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        problems += [f"{path.relative_to(root)} imports {name}" for name in sorted(names)
                     if name.split(".")[0] in ("boto3", "botocore")]
    return problems


def clocks(root: Path) -> list[str]:
    """One place reads the wall clock (time.monotonic measures, and is free)."""
    clock = re.compile(r"time\.(time|time_ns|gmtime|localtime|strftime|ctime)|(datetime\.)+(now|utcnow|today)")
    places = [f"{path.relative_to(root)}:{node.lineno}" for path, tree in _python(root)
              if root / "scripts" in path.parents for node in ast.walk(tree)
              if isinstance(node, ast.Call) and clock.fullmatch(ast.unparse(node.func))]
    return [f"{place} reads the clock, as {places[0]} does" for place in places[1:]]


def python_sizes(root: Path) -> list[str]:
    """Files of at most 400 lines, functions of at most 40 (docstring included, decorators not)."""
    problems = []
    for path, tree in _python(root):
        name = path.relative_to(root)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > PYTHON_LINES:
            problems.append(f"{name}: {lines} lines, at most {PYTHON_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    problems.append(f"{name}: {node.name} has {lines} lines, at most {FUNCTION_LINES}")
    return problems


def docstrings(root: Path) -> list[str]:
    """Every module says what it is for; a test module's name may do that."""
    return [f"{path.relative_to(root)} has no docstring" for path, tree in _python(root)
            if not ast.get_docstring(tree) and not path.name.startswith("test_")]


# --- text -----------------------------------------------------------------------------------------------------------

def text_sizes(root: Path) -> list[str]:
    """Role YAML and image definitions of at most 60 lines; READMEs of folders and roles of at most 30."""
    limits = [("roles/*/**/*.yml", ROLE_LINES), ("packer/images/*.yml", IMAGE_LINES), ("*/README.md", README_LINES),
              ("roles/*/README.md", README_LINES)]
    known = set(files(root))
    return [f"{path.relative_to(root)}: {lines} lines, at most {limit}" for pattern, limit in limits
            for path in sorted(root.glob(pattern)) if path in known
            and (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit]


def folder_readmes(root: Path) -> list[str]:
    """Each top folder says what goes there."""
    return [f"{folder}/README.md is missing" for folder in TOP_FOLDERS if not (root / folder / "README.md").is_file()]


def machine_hosts() -> list[str]:
    """Hosts of this machine's package mirrors: of the distribution's own archives in apt, and of pip.

    A vendor's repository that this machine also uses is no mirror, and its address may stand in a role.
    """
    uris = [line.partition("|")[2] for line in _apt_sources() if line.startswith(("Debian", "Ubuntu"))]
    uris += re.findall(r"https?://\S+", _pip_configuration())
    uris += [value for name, value in os.environ.items()
             if name.startswith("GOLDEN_MIRROR_") or name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")]
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
    return [f"{path.relative_to(root)} names the mirror {host}" for path, text in _texts(root)
            for host in hosts if re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", text)]


STOCK_USERS = ("debian", "ubuntu", "admin", "litter")
"""Users of the distributions' images, and the one whose home the seal's scenario litters."""


def machine_paths(root: Path, checkout: Path, home: Path) -> list[str]:
    """No file holds the path of a checkout or of a person's home (root's and a stock user's are none)."""
    stock = "|".join(STOCK_USERS)
    personal = [re.escape(str(checkout)), rf"/home/(?!({stock})\b)[a-z]\w*(?=/|\b)", r"/Users/\w+(?=/)"]
    if home != Path("/root"):
        personal.append(re.escape(str(home)))
    pattern = re.compile(rf"(?<![\w.*}}/-])({'|'.join(personal)})(?![\w-])")
    return [f"{path.relative_to(root)} holds the path {found[0]}" for path, text in _texts(root)
            if (found := pattern.search(text))]


# --- documentation --------------------------------------------------------------------------------------------------

def variables(root: Path) -> list[str]:
    """Each GOLDEN_ variable that code reads or sets is in README.md (`GOLDEN_X_<NAME>` documents a family)."""
    readme = _read(root / "README.md")
    families = tuple(re.findall(r"(GOLDEN_[A-Z_]+_)<", readme))
    known = set(re.findall(r"GOLDEN_[A-Z_]*[A-Z]\b", readme))
    used: dict[str, Path] = {}
    for path, text in _texts(root):
        name = path.relative_to(root)
        if path.suffix == ".md" or name.parts[:2] in (("tests", "unit"), ("tests", "contract")):
            continue
        for variable in re.findall(r"\bGOLDEN_[A-Z_]*[A-Z]\b", text):
            used.setdefault(variable, name)
    return [f"{variable} ({where}) is not in README.md" for variable, where in sorted(used.items())
            if variable not in known and not variable.startswith(families or ("\0",))
            and f"{variable}_" not in families]


def make_targets(root: Path) -> list[str]:
    """Every Make target has a help text, is phony and calls what exists; there are at most 25."""
    text = _read(root / "Makefile")
    targets = re.findall(r"^([a-z][\w%-]*):(?!=)(.*)$", text, re.MULTILINE)
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)).split())
    problems = [f"make {name} has no help text" for name, rest in targets if not re.search(r"## \S", rest)]
    problems += [f"make {name} is not .PHONY" for name, _ in targets if name not in phony and "%" not in name]
    problems += [f"the Makefile calls {script}, which does not exist"
                 for script in sorted(set(re.findall(r"\bscripts/[\w-]+", text))) if not (root / script).is_file()]
    return problems + ([f"{len(targets)} Make targets, at most {MAKE_TARGETS}"] if len(targets) > MAKE_TARGETS else [])


def exit_codes(root: Path, codes: Iterable[int]) -> list[str]:
    """The table below README's heading "Exit codes" has exactly the codes of errors.py."""
    section = re.search(r"^## Exit codes$(.*?)(?=^## |\Z)", _read(root / "README.md"), re.MULTILINE | re.DOTALL)
    stated = {int(code) for code in re.findall(r"^\| (\d+) \|", section[1] if section else "", re.MULTILINE)}
    known = set(codes)
    return [f"exit code {code} is not in README.md" for code in sorted(known - stated)] + \
        [f"README.md states exit code {code}, which does not exist" for code in sorted(stated - known)]


def links(root: Path) -> list[str]:
    """Relative links and pictures of Markdown files lead to files."""
    return [f"{path.relative_to(root)}: broken link {target}" for path, text in _texts(root) if path.suffix == ".md"
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
            if "://" not in target and not (path.parent / target).exists()]


def benches(root: Path) -> list[str]:
    """Every measurement is in the README and in Make's help."""
    names = sorted(path.stem.removeprefix("bench_") for path in (root / "tests/bench").glob("bench_*.py"))
    return [f"{where} has no bench-{name}" for where in ("README.md", "Makefile") for name in names
            if not re.search(rf"\bbench-{name}\b", _read(root / where))]


def stages(root: Path, names: Iterable[str]) -> list[str]:
    """README's stage table has every stage that the command line has."""
    readme = _read(root / "README.md")
    return [f"stage {name} is not in README.md" for name in names if not re.search(rf"^\| `{name}` \|", readme, re.M)]


def module_map(root: Path) -> list[str]:
    """ARCHITECTURE.md's map has every room and every folder within one."""
    package, text = root / "scripts/goldenami", _read(root / "ARCHITECTURE.md")
    folders = {str(path.parent.relative_to(package)) for path in package.rglob("*.py")} - {"."}
    return [f"ARCHITECTURE.md does not say what {name}/ is for" for name in sorted(folders) if f"`{name}/`" not in text]


def libraries(root: Path) -> list[str]:
    """ARCHITECTURE.md says why each direct requirement is there."""
    text = _read(root / "ARCHITECTURE.md")
    direct = requirement_rules.direct(root / "pyproject.toml")
    return [f"ARCHITECTURE.md does not say why {name} is required"
            for name in sorted({requirement.name for wanted in direct.values() for requirement in wanted})
            if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE)]


def prose_width(root: Path) -> list[str]:
    """Markdown lines of at most 120 characters; rows of tables and lone links may be longer."""
    return [f"{path.relative_to(root)}:{number}: {len(line)} characters, at most 120" for path, text in _texts(root)
            if path.suffix == ".md" for number, line in enumerate(text.splitlines(), 1)
            if len(line) > 120 and not line.startswith("|") and " " in line.strip()]


def local_hooks(root: Path) -> list[str]:
    """pre-commit downloads nothing."""
    found = re.findall(r"^ *- repo: *(\S+)", _read(root / ".pre-commit-config.yaml"), re.MULTILINE)
    return [f".pre-commit-config.yaml downloads hooks from {repo}" for repo in found if repo != "local"]


# --- history --------------------------------------------------------------------------------------------------------

_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def changelog(text: str) -> list[str]:
    """Keep a Changelog: Unreleased first, then dated versions, newest first, each with known kinds of changes."""
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    problems = [] if text.startswith("# Changelog\n") else ["CHANGELOG.md does not begin with `# Changelog`"]
    if heads[:1] != ["[Unreleased]"]:
        problems.append("the first section is not `## [Unreleased]`")
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d{2}-\d{2}", head) for head in heads[1:]]
    problems += [f"`## {head}` is not `## [x.y.z] - yyyy-mm-dd`"
                 for head, match in zip(heads[1:], released, strict=True) if not match]
    versions = [tuple(map(int, match.groups())) for match in released if match]
    if versions != sorted(versions, reverse=True):
        problems.append("versions are not newest first")
    return problems + [f"`### {kind}` is not one of {', '.join(_KINDS)}"
                       for kind in re.findall(r"^### (.+)$", text, re.MULTILINE) if kind not in _KINDS]


def commit_subjects(subjects: Iterable[str]) -> list[str]:
    """`area: Imperative`, without a full stop, of at most 100 characters; git's own merges and reverts are exempt."""
    form = re.compile(r"[a-z][a-z0-9_./-]*(, [a-z][a-z0-9_./-]*)*: (?!\w+(ed|ing)\b)[A-Z].{2,}(?<!\.)")
    return [f"`{subject}` is not `area: Imperative`" for subject in subjects
            if not subject.startswith(("Merge ", "Revert ")) and not (form.fullmatch(subject) and len(subject) <= 100)]


RULES: tuple[Callable[[Path], list[str]], ...] = (
    top_level, imports, emulator, processes, boto3, clocks, python_sizes, docstrings, text_sizes, folder_readmes,
    variables, make_targets, links, module_map, libraries, prose_width, local_hooks, benches,
    requirement_rules.pins,
)
"""The rules that need nothing but the tree."""


