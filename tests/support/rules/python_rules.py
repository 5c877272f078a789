"""Rules of Python: names, sizes, who may start processes. Which way imports go, pyproject.toml
says."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path

from support.rules import trees

FILE_LINES, FUNCTION_LINES, FOLDER_MODULES = 400, 40, 15
COLUMNS, WIDE_PERCENT = 100, 3
WEIGHTS = {
    "scripts/goldenami/core": 71, "scripts/goldenami/packages": 94, "scripts/goldenami/model": 210,
    "scripts/goldenami/aws": 276, "scripts/goldenami/local": 413, "scripts/goldenami/image": 363,
    "scripts/goldenami/release": 173, "scripts/goldenami/fleet": 181, "scripts/goldenami/watch": 67,
    "scripts/goldenami/commands": 104, "scripts/ec2_emulator": 176,
    "tests/unit": 1008, "tests/contract": 227, "tests/aws": 440, "tests/image": 236,
    "tests/bench": 36,
    "tests/support": 533,
}
"""What the Python of a folder may weigh, in 1,000 bytes. A feature names what it replaces; a cut
lowers the number."""
_STARTERS = re.compile(r"^(subprocess\.\w+|os\.(system|popen|fork|forkpty|posix_spawnp?|spawn\w+)|pty\.(spawn|fork)"
                       r"|asyncio\.create_subprocess_\w+)$")
_EXEC = re.compile(r"^os\.exec\w+$")
_TYPES_OF_SUBPROCESS = {"Popen", "TimeoutExpired", "CompletedProcess", "CalledProcessError"}


def basenames(root: Path) -> list[str]:
    """No two modules of the product have one name; those of commands/ are named as their
    command."""
    package, problems, known = root / "scripts/goldenami", [], dict[str, Path]()
    for path, _ in trees.python(root, "scripts/goldenami"):
        if path.name == "__init__.py" or path.parent == package / "commands":
            continue
        if known.setdefault(path.name, path) != path:
            other = known[path.name].relative_to(package)
            problems.append(f"{path.relative_to(package)} has the name of {other}")
    return problems


def folders(root: Path) -> list[str]:
    """A folder of the product has at most 15 modules."""
    package = root / "scripts/goldenami"
    modules = Counter(path.parent for path, _ in trees.python(root, "scripts/goldenami")
                      if path.name != "__init__.py")
    return [f"{folder.relative_to(package)}/ has {number} modules, at most {FOLDER_MODULES}"
            for folder, number in sorted(modules.items()) if number > FOLDER_MODULES]


def weights(root: Path) -> list[str]:
    """No folder of Python weighs more than its budget."""
    problems = []
    for folder, budget in WEIGHTS.items():
        size = sum(path.stat().st_size for path in trees.glob(root, f"{folder}/**/*.py"))
        if size > budget * 1000:
            problems.append(f"{folder} weighs {size:,} bytes, at most {budget},000: what does "
                            "this replace?")
    return problems


def processes(root: Path) -> list[str]:
    """Only core/shell.py starts processes; join.py, which becomes one, may exec. What runs on an
    instance has no shell.py."""
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


def clocks(root: Path) -> list[str]:
    """One place reads the wall clock (time.monotonic measures, and is free)."""
    clock = re.compile(
        r"time\.(time|time_ns|gmtime|localtime|strftime|ctime)|(datetime\.)+(now|utcnow|today)"
    )
    places = [f"{path.relative_to(root)}:{node.lineno}"
              for path, tree in trees.python(root, "scripts")
              for node in ast.walk(tree)
              if isinstance(node, ast.Call) and clock.fullmatch(ast.unparse(node.func))]
    return [f"{place} reads the clock, as {places[0]} does" for place in places[1:]]


_NAMED = re.compile(r"(?<![\w/{}*.-])(\w+\.py)\b|`([a-z]+(?:_[a-z]+)+)`")
_OF_OTHERS = frozenset({"run_tags", "remote_storage"})
"""Names of Packer's and of ccache's."""


def names(root: Path) -> list[str]:
    """What a line names, a module or `a_function`, there is: renaming by machine leaves comments
    behind."""
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
    """One module asks for a pid: a name, a lock or a tag has a ProcessId, which says of which
    machine the pid is."""
    problems, home = [], root / "scripts/goldenami/core/process.py"
    for path, tree in trees.python(root, "scripts", "roles"):
        if path == home:
            continue
        problems += [f"{path.relative_to(root)}:{node.lineno} asks for a pid: use ProcessId"
                     for node in ast.walk(tree)
                     if isinstance(node, ast.Attribute | ast.alias)
                     and _name(node) in ("getpid", "getppid")]
    return problems


def _name(node: ast.Attribute | ast.alias) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.name


def class_names(root: Path) -> list[str]:
    """One noun, one type: no two modules of scripts/ have a class of the same name."""
    problems, known = [], dict[str, Path]()
    for path, tree in trees.python(root, "scripts"):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and known.setdefault(node.name, path) != path:
                problems.append(f"{path.relative_to(root)} has a class {node.name}, as "
                                f"{known[node.name].name} has")
    return problems


_LISTING = frozenset({"glob", "rglob", "iterdir"})
_CHECKOUT = re.compile(r"\b(ROOT|POLICIES|HERE|SCRIPTS)\b")
_COUNTS = frozenset({"trees.py", "role_rules.py", "test_policy_coverage.py"})
"""They count by themselves, or hold what they find to a list of names."""


def scans(root: Path) -> list[str]:
    """A test that looks at files of the checkout says how many there are: `trees.scanned`, and in a
    rule `trees`."""
    problems = []
    for path, tree in trees.python(root, "tests"):
        is_rule = path.parent == root / "tests/support/rules"
        if path.name in _COUNTS or not (is_rule or path.name.startswith("test_")):
            continue
        problems += [f"{path.relative_to(root)}:{node.lineno} lists files and does not count them"
                     for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                     and node.attr in _LISTING
                     and ast.unparse(node.value) != "trees"
                     and (is_rule or _CHECKOUT.search(ast.unparse(node.value)))]
    return problems


def sizes(root: Path) -> list[str]:
    """Files of at most 400 lines, functions of at most 40 (docstring included, signature not)."""
    problems = []
    for path, tree in trees.python(root):
        name = path.relative_to(root)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES:
            problems.append(f"{name}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                if lines > FUNCTION_LINES:
                    problems.append(f"{name}: {node.name} has {lines} lines, at most "
                                    f"{FUNCTION_LINES}")
    return problems


def widths(root: Path) -> list[str]:
    """Of the lines of Python at most 3 in 100 are wider than 100 columns: long texts alone."""
    lines = [line for path, _ in trees.python(root)
             for line in path.read_text(encoding="utf-8").splitlines()]
    wide = sum(len(line) > COLUMNS for line in lines)
    if wide * 100 <= WIDE_PERCENT * len(lines):
        return []
    return [f"{wide} of {len(lines)} lines are wider than {COLUMNS} columns, "
            f"at most {WIDE_PERCENT} in 100"]


def docstrings(root: Path) -> list[str]:
    """Every module says what it is for; a test module's name may do that."""
    return [f"{path.relative_to(root)} has no docstring" for path, tree in trees.python(root)
            if not ast.get_docstring(tree) and not path.name.startswith("test_")]
