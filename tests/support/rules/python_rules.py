"""Rules of Python: which way imports go, who may start processes, sizes."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path

from support.rules import trees

ROOMS: tuple[frozenset[str], ...] = (
    frozenset({"core"}),
    frozenset({"packages"}),
    frozenset({"model"}),
    frozenset({"aws", "local"}),
    frozenset({"image"}),
    frozenset({"release"}),
    frozenset({"fleet"}),
    frozenset({"watch"}),
    frozenset({"commands"}),
    frozenset({"cli"}),
    frozenset({"reference"}),
)
"""The folders of the package, lowest first: a module imports from its own room and from lower rows. A folder
that is in no row is itself a violation."""

FILE_LINES, FUNCTION_LINES = 400, 40
_STARTERS = re.compile(r"^(subprocess\.\w+|os\.(system|popen|fork|forkpty|posix_spawnp?|spawn\w+)|pty\.(spawn|fork)"
                       r"|asyncio\.create_subprocess_\w+)$")
_EXEC = re.compile(r"^os\.exec\w+$")
_TYPES_OF_SUBPROCESS = {"Popen", "TimeoutExpired", "CompletedProcess", "CalledProcessError"}


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
    for path, tree in trees.python(root, "scripts/goldenami"):
        if path == package / "__init__.py":
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
    """The product does not know the emulator, which uses nothing of the product but core/."""
    product, package, problems = root / "scripts/goldenami", root / "scripts/ec2_emulator", []
    for path, tree in trees.python(root, "scripts"):
        if product in path.parents:
            problems += [f"{path.relative_to(root)} imports the emulator" for node in ast.walk(tree)
                         if isinstance(node, ast.Import | ast.ImportFrom) and "ec2_emulator" in ast.unparse(node)]
        elif package in path.parents:
            problems += [f"{path.relative_to(root)} imports {room}, and may import core alone"
                         for room in sorted(_rooms(tree) - {"core"})]
    return problems


def processes(root: Path) -> list[str]:
    """Only core/shell.py starts processes; join.py, which becomes one, may exec. What runs on an instance has no
    shell.py."""
    problems = []
    package = root / "scripts/goldenami"
    apart = (package / "core/shell.py", package / "fleet/drift/inside/instance_program.py")
    for path, tree in trees.python(root, "scripts/goldenami"):
        if path in apart:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if _STARTERS.match(called) or (_EXEC.match(called) and path.name != "join.py"):
                    problems.append(f"{path.relative_to(root)}:{node.lineno} calls {called}")
            if isinstance(node, ast.ImportFrom) and node.module == "subprocess":
                problems += [f"{path.relative_to(root)}:{node.lineno} imports {alias.name} from subprocess"
                             for alias in node.names if alias.name not in _TYPES_OF_SUBPROCESS]
    return problems


def boto3(root: Path) -> list[str]:
    """Only aws/ knows boto3."""
    package, problems = root / "scripts/goldenami", []
    for path, tree in trees.python(root, "scripts/goldenami"):
        if package / "aws" in path.parents:
            continue
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        problems += [f"{path.relative_to(root)} imports {name}" for name in sorted(names)
                     if name.split(".")[0] in ("boto3", "botocore")]
    return problems


def clocks(root: Path) -> list[str]:
    """One place reads the wall clock (time.monotonic measures, and is free)."""
    clock = re.compile(r"time\.(time|time_ns|gmtime|localtime|strftime|ctime)|(datetime\.)+(now|utcnow|today)")
    places = [f"{path.relative_to(root)}:{node.lineno}" for path, tree in trees.python(root, "scripts")
              for node in ast.walk(tree)
              if isinstance(node, ast.Call) and clock.fullmatch(ast.unparse(node.func))]
    return [f"{place} reads the clock, as {places[0]} does" for place in places[1:]]


_NAMED = re.compile(r"(?<![\w/{}*.-])(\w+\.py)\b|`([a-z]+(?:_[a-z]+)+)`")
_OF_OTHERS = frozenset({"run_tags", "remote_storage"})
"""Names of Packer's and of ccache's."""


def names(root: Path) -> list[str]:
    """What a line names, a module or `a_function`, there is: renaming by machine leaves comments behind."""
    files = dict(trees.texts(root))
    known = {path.name for path in files} | _OF_OTHERS
    code = [text for path, text in files.items() if path.suffix in (".py", ".yml")]
    words = Counter(re.findall(r"\w+", "\n".join(code)))
    problems = []
    for path, text in files.items():
        if path.suffix != ".py" or root / "scripts" not in path.parents:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            problems += [f"{path.relative_to(root)}:{number} names {''.join(found)}, which does not exist"
                         for found in _NAMED.findall(line) if not _exists(found, known, words)]
    return problems


def _exists(found: tuple[str, str], known: Set[str], words: Mapping[str, int]) -> bool:
    module, function = found
    return module in known if module else function in known or words[function] > 1


def process_ids(root: Path) -> list[str]:
    """One module asks for a pid: a name, a lock or a tag has a ProcessId, which says of which machine the pid is."""
    problems, home = [], root / "scripts/goldenami/core/process.py"
    for path, tree in trees.python(root, "scripts", "roles"):
        if path == home:
            continue
        problems += [f"{path.relative_to(root)}:{node.lineno} asks for a pid: use ProcessId" for node in ast.walk(tree)
                     if isinstance(node, ast.Attribute | ast.alias) and _name(node) in ("getpid", "getppid")]
    return problems


def _name(node: ast.Attribute | ast.alias) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.name


def class_names(root: Path) -> list[str]:
    """One noun, one type: no two modules of scripts/ have a class of the same name."""
    problems, known = [], dict[str, Path]()
    for path, tree in trees.python(root, "scripts"):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and known.setdefault(node.name, path) != path:
                problems.append(f"{path.relative_to(root)} has a class {node.name}, as {known[node.name].name} has")
    return problems


_LISTING = frozenset({"glob", "rglob", "iterdir"})
_CHECKOUT = re.compile(r"\b(ROOT|POLICIES|HERE|SCRIPTS)\b")
_COUNTS = frozenset({"trees.py", "role_rules.py", "test_policy_coverage.py"})
"""They count by themselves, or hold what they find to a list of names."""


def scans(root: Path) -> list[str]:
    """A test that looks at files of the checkout says how many there are: `trees.scanned`, and in a rule `trees`."""
    problems = []
    for path, tree in trees.python(root, "tests"):
        is_rule = path.parent == root / "tests/support/rules"
        if path.name in _COUNTS or not (is_rule or path.name.startswith("test_")):
            continue
        problems += [f"{path.relative_to(root)}:{node.lineno} lists files and does not count them"
                     for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in _LISTING
                     and ast.unparse(node.value) != "trees"
                     and (is_rule or _CHECKOUT.search(ast.unparse(node.value)))]
    return problems


def sizes(root: Path) -> list[str]:
    """Files of at most 400 lines, functions of at most 40 (docstring included, decorators not)."""
    problems = []
    for path, tree in trees.python(root):
        name = path.relative_to(root)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES:
            problems.append(f"{name}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    problems.append(f"{name}: {node.name} has {lines} lines, at most {FUNCTION_LINES}")
    return problems


def docstrings(root: Path) -> list[str]:
    """Every module says what it is for; a test module's name may do that."""
    return [f"{path.relative_to(root)} has no docstring" for path, tree in trees.python(root)
            if not ast.get_docstring(tree) and not path.name.startswith("test_")]
