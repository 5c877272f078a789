"""This checkout keeps the rules of its shape, and each rule is seen to fail on a tree that breaks
it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami import cli, reference
from goldenami.core import shell
from goldenami.model.definitions import definition_keys
from support.rules import (
    history_rules,
    layout_rules,
    policy_rules,
    prose_rules,
    python_rules,
    surface_rules,
    text_rules,
    trees,
)
from support.rules.requirement_rules import FILES, pins

ROOT = Path(__file__).resolve().parents[2]
LEAST_TEXTS = 1200
LEAST = {
    "python_rules": {
        "basenames": 320, "folders": 320, "weights": 650, "sizes": 750, "widths": 750},
    "text_rules": {
        "sizes": 175, "variables": LEAST_TEXTS, "make_targets": 1, "module_map": 320},
    "requirement_rules": {"pins": 4}, "policy_rules": {"template": 19},
    "prose_rules": {"sentences": 55, "page_sizes": 27, "links": 55},
}
"""How many files each rule looks at, at least: one that looks at none finds nothing wrong."""


@pytest.mark.parametrize("rule", layout_rules.RULES, ids=lambda rule: f"{rule.__module__}.{rule.__name__}")
def test_checkout_keeps(rule: Callable[[Path], list[str]]) -> None:
    trees.SEEN.clear()
    assert "\n".join(rule(ROOT)) == ""
    assert len(trees.SEEN) >= LEAST[rule.__module__.rpartition(".")[2]][rule.__name__]


def test_no_file_names_a_mirror_of_this_machine() -> None:
    trees.SEEN.clear()
    assert "\n".join(text_rules.mirror_hosts(ROOT, text_rules.machine_hosts())) == ""
    assert len(trees.SEEN) >= LEAST_TEXTS


def test_no_file_holds_a_path_of_this_machine() -> None:
    trees.SEEN.clear()
    assert "\n".join(text_rules.machine_paths(ROOT, ROOT, Path.home())) == ""
    assert len(trees.SEEN) >= LEAST_TEXTS


def test_reference_is_what_the_code_says() -> None:
    found, made = (ROOT / reference.PAGE).read_text(encoding="utf-8"), reference.page(ROOT)
    other = "\n".join(difflib.unified_diff(found.splitlines(), made.splitlines(), lineterm="", n=0))
    assert other == "", f"run scripts/reference, which writes {reference.PAGE}"


def test_no_more_commands_options_and_variables_than_their_caps() -> None:
    counts = surface_rules.counted()
    assert "\n".join(surface_rules.too_many(counts)) == ""
    assert all(count > surface_rules.CAPS[name] / 2 for name, count in counts.items()), counts


@pytest.mark.parametrize("name", surface_rules.CAPS)
def test_one_more_than_a_cap_is_seen(name: str) -> None:
    most = surface_rules.CAPS
    assert surface_rules.too_many(most) == []
    assert surface_rules.too_many({**most, name: most[name] + 1}) == [
        f"{most[name] + 1} {name}, at most {most[name]}"]


def test_a_module_of_commands_is_named_as_its_command(tmp_path: Path) -> None:
    assert "\n".join(surface_rules.command_modules(ROOT, cli.MODULES)) == ""
    for name in ("life", "gpu_test", "checkout", *(f"a{number}" for number in range(13))):
        _write(tmp_path, f"{PACKAGE}/commands/{name}.py", "")
    found = surface_rules.command_modules(tmp_path, {"gpu-test": "gpu_test", "retire": "life"})
    assert "life.py has no command `life`" in found and "gpu_test" not in " ".join(found)
    assert found[-1] == "commands/ has 16 modules, at most 15"


def test_every_key_of_a_definition_has_a_meaning() -> None:
    """It is the string below the field."""
    assert not [f"{path}.{key.name}" for path, keys in definition_keys.sections() for key in keys
                if not key.meaning]


def test_commit_subjects() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git history here")
    subjects = shell.output(["git", "log", "--format=%s"], cwd=ROOT, check=False).splitlines()
    assert not history_rules.commit_subjects(subjects)


# --- each rule has been seen to fail ---------------------------------------------------------------------------------

def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


PACKAGE = "scripts/goldenami"
HASH = f"\\\n    --hash=sha256:{'0' * 64}\n"
ACCOUNT = {
    policy_rules.TEMPLATE: "    Metadata: {Commands: [a]}\n    Properties:\n        Statement:\n          - Sid: Odd\n",
    f"{policy_rules.POLICIES}/a.json": '{"Statement": [{"Effect": "Allow", "Action": ["a:B"], "Resource": "*"}]}'}
BAD_TREES = [
    (python_rules.basenames, {f"{PACKAGE}/image/a.py": "", f"{PACKAGE}/local/a.py": ""},
     "local/a.py has the name of image/a.py"),
    (python_rules.folders, {f"{PACKAGE}/local/a{number}.py": "" for number in range(16)},
     "local/ has 16 modules, at most 15"),
    (python_rules.weights, {"tests/bench/a.py": "#" * 25_001},
     "tests/bench weighs 25,001 bytes, at most 25,000: what does this replace?"),
    (python_rules.sizes, {"tests/a.py": "x = 1\n" * 401}, "tests/a.py: 401 lines, at most 400"),
    (python_rules.sizes, {"a.py": "def long():\n" + "    x = 1\n" * 41},
     "a.py: long has 41 lines, at most 40"),
    (python_rules.widths, {"a.py": "x = 1\n" * 9 + f"y = '{'z' * 100}'\n"},
     "1 of 10 lines are wider than 100 columns, at most 3 in 100"),
    (text_rules.sizes, {"roles/a/tasks/main.yml": "#\n" * 61},
     "roles/a/tasks/main.yml: 61 lines, at most 60"),
    (text_rules.variables, {"scripts/a": "$GOLDEN_ODD", text_rules.ENVIRONMENT: "GOLDEN_ODDITY"},
     "GOLDEN_ODD (scripts/a) is not in"),
    (text_rules.make_targets, {"Makefile": ".PHONY: a\na: b\n\t@true\n"},
     "make a has no help text"),
    (text_rules.make_targets, {"Makefile": "".join(f"t{n}: ## x\n" for n in range(25))},
     "25 Make targets, at most 24"),
    (prose_rules.links, {"README.md": "# A\n\n[x](no/such.md)"},
     "README.md:3: broken link no/such.md"),
    (prose_rules.links, {"a.md": "[x](b.md#even-odd)", "b.md": "# Even\n\n# Odd"},
     "a.md:1: broken link b.md#even-odd"),
    (prose_rules.links, {"a.md": "# One\n\n| a |\n| - |\n| [x](#two) |"},
     "a.md:5: broken link #two"),
    (prose_rules.sentences,
     {"README.md": "Short.\n\n* Even `a b`.\n* " + "word " * 30 + "`last word`."},
     "README.md:4: 31 words, at most 30: word"),
    (prose_rules.page_sizes, {"README.md": "x\n" * 131}, "README.md: 131 lines, at most 130"),
    (text_rules.module_map, {f"{PACKAGE}/odd/a.py": ""},
     "ARCHITECTURE.md does not say what odd/ is for"),
    (policy_rules.template, {**ACCOUNT, f"{policy_rules.POLICIES}/b.json": "{}"},
     "account.yml has no policy with the rights of b.json"),
    (policy_rules.template, {policy_rules.TEMPLATE: ACCOUNT[policy_rules.TEMPLATE]},
     "account.yml names a.json, which does not exist"),
    (policy_rules.template, ACCOUNT,
     "account.yml has other rights than scripts/goldenami/aws/policies: run scripts/"),
    (pins,
     {"pyproject.toml": '[project]\ndependencies = ["odd>=2"]',
      "requirements/run.txt": f"odd==1 {HASH}"},
     "run.txt does not have odd>=2; run scripts/pin"),
    (pins, {"pyproject.toml": '[dependency-groups]\ntest = ["odd"]'},
     "test.txt does not have odd; run"),
    (pins, {"pyproject.toml": '[dependency-groups]\ndocs = ["odd"]'}, "the group docs, for which"),
    (pins, {"requirements/run.txt": f"odd==1 {HASH}", "requirements/test.txt": f"odd==2 {HASH}"},
     "emulator.txt: odd is not 1, as in the file before it"),
]


@pytest.mark.parametrize(("rule", "tree", "message"), BAD_TREES, ids=[bad[2] for bad in BAD_TREES])
def test_rule_sees(
    tmp_path: Path, rule: Callable[[Path], list[str]], tree: dict[str, str], message: str
) -> None:
    for name, text in tree.items():
        _write(tmp_path, name, text)
    assert any(message in problem for problem in rule(tmp_path)), rule(tmp_path)


def test_a_scan_that_sees_too_little_fails(tmp_path: Path) -> None:
    _write(tmp_path, "a/one.yml", "")
    assert [path.name for path in trees.scanned(1, tmp_path, "*/*.yml")] == ["one.yml"]
    with pytest.raises(AssertionError, match=r"\*/\*.yml are 1 files here, and were 2"):
        trees.scanned(2, tmp_path, "*/*.yml")


def test_every_rule_has_a_bad_tree() -> None:
    assert {bad[0] for bad in BAD_TREES} == set(layout_rules.RULES)


def test_rules_accept_what_is_right(tmp_path: Path) -> None:
    good = {
        f"{PACKAGE}/core/errors.py": '"""Errors."""',
        f"{PACKAGE}/image/bake/bake.py": '"""Bake."""\nimport subprocess\nfrom goldenami.model import lockfile\n'
                                   "x: subprocess.Popen\nclass A:\n    class B: ...\nclass B: ...",
        "scripts/ec2_emulator/server.py": '"""EC2."""\nfrom goldenami.core import clock\nimport botocore',
        f"{PACKAGE}/aws/client.py": '"""AWS."""\nimport boto3',
        f"{PACKAGE}/local/join.py": '"""Join."""\nimport os\nfrom goldenami.core import errors\nos.execvp("a", [])',
        "Makefile": ".PHONY: a\nX ?= 1\na: ## does it\n\t@true\n",
        "scripts/run": "$GOLDEN_MIRROR_X $GOLDEN_CACHE",
        "ARCHITECTURE.md": "`core/`, `image/`, `image/bake/`, `aws/`, `local/`, even",
        "pyproject.toml": '[project]\ndependencies = ["even>=1"]\n[dependency-groups]\ntest = ["even"]',
        **{f"requirements/{name}.txt": f"# by a tool\neven==1 {HASH}odd==2 ; x == 'y' {HASH}"
           for name in FILES},
        text_rules.ENVIRONMENT: '"""GOLDEN_MIRROR_<ARCHIVE> GOLDEN_CACHE"""',
        "README.md": "[code](scripts/run) [web](https://example.org/x) [page](docs/a.md) [part](docs/a.md#it-is-so-1)",
        "a.md": "word\n" * 29 + "word!\nNext one `a b c` " + "word\n" * 27 + "\n"
        + f"    {'code ' * 20}\n" * 2,
        "docs/a.md": "# A\n\nIs it\nso?\n\n## It is *so*.\n\n## It is `so`",
    }
    for name, text in good.items():
        _write(tmp_path, name, text)
    assert not [problem for rule in layout_rules.RULES for problem in rule(tmp_path)]


def test_mirror_host_is_seen(tmp_path: Path) -> None:
    _write(tmp_path, "packer/a.yml", "uri: https://mirror.example.org/debian\n")
    assert text_rules.mirror_hosts(tmp_path, ["mirror.example.org"]) == [
        "packer/a.yml names the mirror mirror.example.org"]
    assert not text_rules.mirror_hosts(tmp_path, ["example.org", "mirror.example.or"])


def test_hosts_come_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", "http://cache.example.net:3142/debian")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@wheels.example.net/simple")
    assert {"cache.example.net", "wheels.example.net"} <= set(text_rules.machine_hosts())


HOMES = "/home"  # in two parts, so that this file does not break the rule


@pytest.mark.parametrize("text", ["in /srv/checkout/a", f"{HOMES}/jane/x", "=/Users" + "/jane/x", '"/srv/jane/.cache"'])
def test_machine_path_is_seen(tmp_path: Path, text: str) -> None:
    _write(tmp_path, "a.md", text)
    assert text_rules.machine_paths(tmp_path, Path("/srv/checkout"), Path("/srv/jane"))


@pytest.mark.parametrize("text", ["/root/x", f"{HOMES}/ubuntu/x", "home/*/x", "{x}/srv/checkout", "/srv/checkouts"])
def test_other_paths_are_no_machines(tmp_path: Path, text: str) -> None:
    _write(tmp_path, "a.md", text)
    assert not text_rules.machine_paths(tmp_path, Path("/srv/checkout"), Path("/root"))


@pytest.mark.parametrize("subject", ["Fix it", "bake: fix it", "bake: Fixed it", "bake: Fix it."])
def test_commit_subject_is_seen(subject: str) -> None:
    assert history_rules.commit_subjects([subject])


@pytest.mark.parametrize("subject", [
    "bake: Feed it", "roles/seal, tests: Remove leases", "Merge branch 'x'"])
def test_commit_subject_is_accepted(subject: str) -> None:
    assert not history_rules.commit_subjects([subject])
